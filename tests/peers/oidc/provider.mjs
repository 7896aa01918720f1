// npm oidc-provider, dressed as Okta, for the tests, the lab and the benches. Never for anything else: /lab asks for no password.
//
//   node provider.mjs PORT
//
// Issuers have a path, as Okta's custom authorization servers do: http://127.0.0.1:PORT/oauth2/default is there from the start.
// Its id tokens are RS256 with a kid, and `groups` stands in them. Beside OpenID Connect there is a small interface:
//
//   POST /lab/issuer   {issuer}                                         one more, with keys of its own; answers its URL
//   POST /lab/mint     {issuer, account, client, claims, expires_at, use}   an id token (use: "logout", a logout token)
//   POST /lab/rotate   {issuer}                                         an emergency: the old key is gone at once
//   POST /lab/jwks     {issuer, status, headers}                        how the key set answers; status 0 hangs up
//   GET  /lab/fetches?issuer=NAME                                       how often metadata and keys were fetched
//
// `issuer` is the last part of the path, `default` where it is absent.
import { createPrivateKey, generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const port = Number(process.argv[2]);
if (!Number.isInteger(port) || port < 1) {
  console.error('usage: node provider.mjs PORT');
  process.exit(2);
}
const origin = `http://127.0.0.1:${port}`;

// The people whom `account` names. Anyone else is a person without groups.
const people = {
  alice: { name: 'Alice Archer', email: 'alice@example.test', groups: ['Everyone', 'eng-backend', 'app-admins'] },
  bob: { name: 'Bob Baker', email: 'bob@example.test', groups: ['Everyone', 'eng-frontend'] },
  carol: { name: 'Carol Cooper', email: 'carol@example.test', groups: ['Everyone'] },
};

function claimsOf(account) {
  const person = people[account] ?? { name: account, email: `${account}@example.test`, groups: [] };
  return { sub: `00u${account}`, preferred_username: account, email_verified: true, ...person };
}

const redirectUris = [`${origin}/lab/callback`];
const clients = [
  // A browser application: it gets id tokens for itself and has no secret.
  { client_id: 'countersign-lab', token_endpoint_auth_method: 'none', redirect_uris: redirectUris },
  // Another application of the same provider, whose tokens are not for us.
  { client_id: 'other-app', token_endpoint_auth_method: 'none', redirect_uris: redirectUris },
  // For the benches.
  {
    client_id: 'bench',
    client_secret: 'bench-secret-bench-secret-bench-secret',
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
  },
];

// By way of PEM: Node 20 can wait for itself for ever when a key that it has just made is exported as a JWK and the garbage
// collector runs meanwhile.
function newKey() {
  const encoding = { type: 'pkcs8', format: 'pem' };
  const { privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048, privateKeyEncoding: encoding, publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
  return { ...createPrivateKey(privateKey).export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

class Issuer {
  constructor(name) {
    this.url = `${origin}/oauth2/${name}`;
    this.prefix = `/oauth2/${name}`;
    this.jwks = { status: 200, headers: {} };
    this.fetches = { metadata: 0, jwks: 0 };
    this.rotate();
  }

  // A provider reads its keys once, so new keys are a new provider behind the same URL.
  rotate() {
    const key = newKey();
    this.provider = new Provider(this.url, {
      clients,
      jwks: { keys: [key] },
      cookies: { keys: ['only for the lab'] },
      claims: { openid: ['sub', 'groups', 'name', 'preferred_username', 'email', 'email_verified'] },
      scopes: ['openid', 'api'],
      conformIdTokenClaims: false,
      findAccount: (_, account) => ({ accountId: account, claims: () => claimsOf(account) }),
      features: {
        clientCredentials: { enabled: true },
        introspection: { enabled: true },
        devInteractions: { enabled: false },
      },
      interactions: { url: () => `${origin}/lab/no-interaction` },
      ttl: { IdToken: 3600, ClientCredentials: 900 },
      routes: {
        authorization: '/v1/authorize', introspection: '/v1/introspect', jwks: '/v1/keys', token: '/v1/token', userinfo: '/v1/userinfo',
      },
    });
    this.handler = this.provider.callback();
    return key.kid;
  }

  // Signed by the provider's own code with its own key; `claims` are added to those of the account.
  async mint({ account = 'alice', client: id = 'countersign-lab', claims = {}, expires_at: expiresAt, use = 'idtoken' }) {
    const client = await this.provider.Client.find(id);
    if (!client) throw new Error(`no client ${id}`);
    const token = new this.provider.IdToken(claimsOf(account), { client });
    token.scope = 'openid';
    const now = Math.floor(Date.now() / 1000);
    for (const [name, value] of Object.entries({ jti: `ID.${randomUUID()}`, auth_time: now, amr: ['pwd'], ...claims })) token.set(name, value);
    return token.issue({ use, expiresAt });
  }

  serve(request, response) {
    request.originalUrl = request.url;
    request.url = request.url.slice(this.prefix.length) || '/';
    const [path] = request.url.split('?');
    if (path === '/.well-known/openid-configuration') this.fetches.metadata += 1;
    if (path === '/v1/keys') {
      this.fetches.jwks += 1;
      const { status, headers } = this.jwks;
      if (status === 0) return request.socket.destroy();
      if (status !== 200) return response.writeHead(status, headers).end('{}');
      for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    }
    return this.handler(request, response);
  }
}

const issuers = new Map([['default', new Issuer('default')]]);

const lab = {
  async issuer({ issuer }) {
    if (!/^[a-z0-9-]{1,60}$/.test(issuer ?? '')) throw new Error('issuer is 1 to 60 of a-z, 0-9 and -');
    const made = issuers.get(issuer) ?? new Issuer(issuer);
    issuers.set(issuer, made);
    return { issuer: made.url };
  },
  mint: async (body) => ({ id_token: await find(body.issuer).mint(body) }),
  rotate: async ({ issuer }) => ({ kid: find(issuer).rotate() }),
  async jwks({ issuer, status = 200, headers = {} }) {
    find(issuer).jwks = { status, headers };
    return { status };
  },
  fetches: async ({ issuer }) => find(issuer).fetches,
};

function find(name = 'default') {
  const found = issuers.get(name);
  if (!found) throw new Error(`no issuer ${name}; make it by POST /lab/issuer`);
  return found;
}

async function serveLab(request, response) {
  const url = new URL(request.url, origin);
  const action = Object.hasOwn(lab, url.pathname.slice(5)) && lab[url.pathname.slice(5)];
  if (!action) return response.writeHead(404).end();
  let status = 200;
  let answer;
  try {
    let text = '';
    for await (const piece of request) text += piece;
    answer = await action({ ...Object.fromEntries(url.searchParams), ...JSON.parse(text || '{}') });
  } catch (error) {
    status = 400;
    answer = { error: error.message };
  }
  return response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
}

const server = createServer((request, response) => {
  if (request.url.startsWith('/lab/')) return serveLab(request, response);
  const name = /^\/oauth2\/([a-z0-9-]+)(?:[/?]|$)/.exec(request.url)?.[1];
  const issuer = issuers.get(name);
  return issuer ? issuer.serve(request, response) : response.writeHead(404).end();
});
server.keepAliveTimeout = 60_000;
server.listen(port, '127.0.0.1', () => console.log(`${origin}/oauth2/default`));
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
