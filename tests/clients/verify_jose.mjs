// Verifies access tokens as a resource server does, with jose: ISSUER AUDIENCE TOKEN…
// Knows the authorization server by its issuer alone. Prints a line a token: header and claims, or why it
// is refused.
import { createRemoteJWKSet, errors, jwtVerify } from 'jose';
import * as oauth from 'oauth4webapi';

const [issuer, audience, ...tokens] = process.argv.slice(2);
const url = new URL(issuer);
const answer = await oauth.discoveryRequest(url, { [oauth.allowInsecureRequests]: true });
const metadata = await oauth.processDiscoveryResponse(url, answer);
const keys = createRemoteJWKSet(new URL(metadata.jwks_uri));
for (const token of tokens) {
  try {
    const { protectedHeader, payload } = await jwtVerify(token, keys, {
      issuer: metadata.issuer,
      audience,
      typ: 'at+jwt',
      requiredClaims: ['iss', 'sub', 'aud', 'exp', 'iat', 'jti'],
    });
    console.log(JSON.stringify({ header: protectedHeader, claims: payload }));
  } catch (error) {
    if (!(error instanceof errors.JOSEError)) throw error;
    console.log(JSON.stringify({ refused: error.code }));
  }
}
