// A token exchange by oauth4webapi: TOKEN_URL CLIENT_ID CLIENT_SECRET SUBJECT_TOKEN SCOPE.
import * as oauth from 'oauth4webapi';

const [tokenUrl, clientId, clientSecret, subjectToken, scope] = process.argv.slice(2);
const server = { issuer: new URL(tokenUrl).origin, token_endpoint: tokenUrl };
const client = { client_id: clientId };
const response = await oauth.genericTokenEndpointRequest(
  server,
  client,
  oauth.ClientSecretBasic(clientSecret),
  'urn:ietf:params:oauth:grant-type:token-exchange',
  { subject_token: subjectToken, subject_token_type: 'urn:ietf:params:oauth:token-type:jwt', scope },
  { [oauth.allowInsecureRequests]: true },
);
const answer = await oauth.processGenericTokenEndpointResponse(server, client, response);
console.log(JSON.stringify(answer));
