"""Verifies access tokens as a resource server does, with PyJWT: ISSUER AUDIENCE TOKEN…

Knows the authorization server by its issuer alone. Prints a line a token: header and claims, or why it is
refused.
"""

import json
import sys
import urllib.request

import jwt
from authlib.oidc.discovery import get_well_known_url

issuer, audience, *tokens = sys.argv[1:]
with urllib.request.urlopen(get_well_known_url(issuer, external=True)) as answer:
    metadata = json.load(answer)
if metadata["issuer"] != issuer:
    sys.exit(f"This is the metadata of {metadata['issuer']}.")
keys = jwt.PyJWKClient(metadata["jwks_uri"])
for token in tokens:
    try:
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
    except jwt.PyJWTError as error:
        print(json.dumps({"refused": type(error).__name__}))
