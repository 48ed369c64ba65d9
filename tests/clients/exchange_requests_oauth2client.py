"""A token exchange by requests-oauth2client: TOKEN_URL CLIENT_ID CLIENT_SECRET SUBJECT_TOKEN SCOPE."""

import json
import sys

from requests_oauth2client import ClientSecretPost, OAuth2Client

token_url, client_id, client_secret, subject_token, scope = sys.argv[1:]
# `testing` allows an endpoint without TLS, for loopback.
client = OAuth2Client(token_url, auth=ClientSecretPost(client_id, client_secret), testing=True)
answer = client.token_exchange(
    subject_token=subject_token,
    subject_token_type="urn:ietf:params:oauth:token-type:jwt",
    scope=scope,
)
print(json.dumps(answer.as_dict(), default=str))
