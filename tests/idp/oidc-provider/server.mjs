// A real identity provider, panva's oidc-provider, on a free loopback port.
//
// usage: ISSUER=https://idp.example [OPAQUE=1] node server.mjs
// With OPAQUE its access tokens are opaque, and otherwise JWTs.
// Prints `listening PORT`. Commands on standard input, one a line, each answered by its own name:
// `down` closes the port and every connection, `up` listens again on the same port. Ends with its
// standard input.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { Provider } from 'oidc-provider';

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const signingKey = { ...privateKey.export({ format: 'jwk' }), kid: 'oidc-provider-1', alg: 'RS256', use: 'sig' };

const client = (id, method) => ({
  client_id: id,
  client_secret: `${id}-secret`,
  token_endpoint_auth_method: method,
  grant_types: ['client_credentials'],
  response_types: [],
  redirect_uris: [],
  scope: 'svc',
});

const provider = new Provider(process.env.ISSUER, {
  clients: [
    client('by-basic', 'client_secret_basic'),
    client('by-post', 'client_secret_post'),
    client('api', 'client_secret_basic'),
    client('stranger', 'client_secret_basic'),
  ],
  scopes: ['svc'],
  jwks: { keys: [signingKey] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'urn:example:legacy-api',
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: 'svc',
        audience: 'urn:example:legacy-api',
        accessTokenFormat: process.env.OPAQUE ? 'opaque' : 'jwt',
        accessTokenTTL: 3600,
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});
// It stands behind a proxy: X-Forwarded-Proto and Host make the URLs in its metadata.
provider.proxy = true;

const server = createServer(provider.callback());
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  console.log(`listening ${port}`);
  createInterface({ input: process.stdin })
    .on('line', (command) => {
      if (command === 'down') {
        server.close(() => console.log('down'));
        server.closeAllConnections();
      } else if (command === 'up') {
        server.listen(port, '127.0.0.1', () => console.log('up'));
      }
    })
    .on('close', () => process.exit(0));
});
