// Verifies access tokens as a resource server does, with jose: METADATA_URL ISSUER AUDIENCE TOKEN…
// Finds the keys by the authorization server's metadata. Prints header and claims, a line a token.
import { createRemoteJWKSet, jwtVerify } from 'jose';

const [metadataUrl, issuer, audience, ...tokens] = process.argv.slice(2);
const metadata = await (await fetch(metadataUrl)).json();
const keys = createRemoteJWKSet(new URL(metadata.jwks_uri));
for (const token of tokens) {
  const { protectedHeader, payload } = await jwtVerify(token, keys, {
    issuer,
    audience,
    typ: 'at+jwt',
    requiredClaims: ['iss', 'sub', 'aud', 'exp', 'iat', 'jti'],
  });
  console.log(JSON.stringify({ header: protectedHeader, claims: payload }));
}
