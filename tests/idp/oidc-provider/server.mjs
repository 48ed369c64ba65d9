// A real identity provider, panva's oidc-provider, on loopback.
//
// usage: ISSUER=https://idp.example PORT=3000 [OPAQUE=1] node server.mjs
// With OPAQUE its access tokens are opaque, and otherwise JWTs. Whoever logs in is who they say.
// Prints `up` once it listens. Commands on standard input, one a line, each answered by its own name:
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
  client_secret: `${id}-secret-at-the-idp`,
  token_endpoint_auth_method: method,
  grant_types: ['client_credentials', 'authorization_code', 'refresh_token'],
  response_types: ['code'],
  redirect_uris: ['http://127.0.0.1:9/cb'],
  scope: 'openid offline_access svc',
});

const provider = new Provider(process.env.ISSUER, {
  clients: [
    client('by-basic', 'client_secret_basic'),
    client('by-post', 'client_secret_post'),
    client('api', 'client_secret_basic'),
    client('stranger', 'client_secret_basic'),
  ],
  scopes: ['openid', 'offline_access', 'svc'],
  // As Cambio's own: a refresh token is used once.
  rotateRefreshToken: true,
  jwks: { keys: [signingKey] },
  features: {
    devInteractions: { enabled: true },
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
const commands = {
  down: () => {
    server.close(() => console.log('down'));
    server.closeAllConnections();
  },
  up: () => server.listen(Number(process.env.PORT), '127.0.0.1', () => console.log('up')),
};
commands.up();
createInterface({ input: process.stdin })
  .on('line', (command) => commands[command]())
  .on('close', () => process.exit(0));
