"""A token exchange by Authlib: TOKEN_URL CLIENT_ID CLIENT_SECRET SUBJECT_TOKEN SCOPE."""

import json
import sys

from authlib.integrations.requests_client import OAuth2Session

token_url, client_id, client_secret, subject_token, scope = sys.argv[1:]
session = OAuth2Session(client_id, client_secret, scope=scope)
answer = session.fetch_token(
    token_url,
    grant_type="urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token=subject_token,
    subject_token_type="urn:ietf:params:oauth:token-type:jwt",
)
print(json.dumps(dict(answer)))
