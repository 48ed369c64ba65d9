"""Verifies access tokens as a resource server does, with PyJWT: METADATA_URL ISSUER AUDIENCE TOKEN…

Finds the keys by the authorization server's metadata. Prints header and claims, a line a token.
"""

import json
import sys
import urllib.request

import jwt

metadata_url, issuer, audience, *tokens = sys.argv[1:]
with urllib.request.urlopen(metadata_url) as answer:
    metadata = json.load(answer)
keys = jwt.PyJWKClient(metadata["jwks_uri"])
for token in tokens:
    header = jwt.get_unverified_header(token)
    claims = jwt.decode(
        token,
        keys.get_signing_key_from_jwt(token),
        algorithms=["ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "EdDSA"],
        issuer=issuer,
        audience=audience,
        options={"require": ["iss", "sub", "aud", "exp", "iat", "jti"]},
    )
    print(json.dumps({"header": header, "claims": claims}))
