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
//   POST /lab/access   {issuer, account, client, claims}                an access token for userinfo, which then answers `claims` too
//   POST /lab/sign     {issuer, header, claims}                         any JWT, signed with the issuer's key
//   POST /lab/jwks     {issuer, status, headers}                        how the key set answers; status 0 hangs up, -1 is silent
//   POST /lab/userinfo {issuer, status, headers, body}                  the same for userinfo; with a body, a lie
//   POST /lab/okta     {issuer, token, users, …}                        the organisation's management API (management.mjs)
//   GET  /lab/fetches?issuer=NAME                                       how often metadata, keys, userinfo, the API were fetched
//
// `issuer` is the last part of the path, `default` where it is absent. Each has an organisation, an issuer of its own with keys of
// its own: http://127.0.0.1:PORT/org/NAME, `org: true` beside `issuer`. Its management API is below it, at /api/v1.
import { createPrivateKey, generateKeyPairSync, randomUUID, sign } from 'node:crypto';
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

import { Management } from './management.mjs';

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
  constructor(prefix) {
    this.url = `${origin}${prefix}`;
    this.prefix = prefix;
    this.jwks = { status: 200, headers: {} };
    this.userinfo = { status: 200, headers: {} };
    this.overrides = new Map();
    this.fetches = { metadata: 0, jwks: 0, userinfo: 0, api: 0 };
    this.rotate();
  }

  // A provider reads its keys once, so new keys are a new provider behind the same URL.
  rotate() {
    const key = newKey();
    this.key = key;
    this.provider = new Provider(this.url, {
      clients,
      jwks: { keys: [key] },
      cookies: { keys: ['only for the lab'] },
      claims: { openid: ['sub', 'groups', 'name', 'preferred_username', 'email', 'email_verified'] },
      scopes: ['openid', 'api'],
      conformIdTokenClaims: false,
      findAccount: (_, account, token) => ({
        accountId: account,
        claims: () => ({ ...claimsOf(account.replace(/^00u/, '')), ...this.overrides.get(token?.jti) }),
      }),
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

  // What a browser gets beside the id token. Userinfo answers the account's claims with `claims` over them.
  async access({ account = 'alice', client: id = 'countersign-lab', claims = {} }) {
    const client = await this.provider.Client.find(id);
    if (!client) throw new Error(`no client ${id}`);
    // The sub of userinfo.
    const accountId = `00u${account}`;
    const grant = new this.provider.Grant({ accountId, clientId: id });
    grant.addOIDCScope('openid');
    const grantId = await grant.save();
    const token = new this.provider.AccessToken({ accountId, client, grantId, gty: 'authorization_code', scope: 'openid' });
    const text = await token.save();
    this.overrides.set(token.jti, claims);
    return text;
  }

  sign({ header = {}, claims = {} }) {
    const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
    const now = Math.floor(Date.now() / 1000);
    const { kid } = this.key;
    const text = [
      { alg: 'RS256', kid, ...header }, { iss: this.url, iat: now, exp: now + 300, jti: randomUUID(), ...claims },
    ].map(encode).join('.');
    return `${text}.${sign('sha256', Buffer.from(text), createPrivateKey({ key: this.key, format: 'jwk' })).toString('base64url')}`;
  }

  serve(request, response) {
    request.originalUrl = request.url;
    request.url = request.url.slice(this.prefix.length) || '/';
    const [path] = request.url.split('?');
    if (path === '/.well-known/openid-configuration') this.fetches.metadata += 1;
    const broken = { '/v1/keys': 'jwks', '/v1/userinfo': 'userinfo' }[path];
    if (broken) {
      this.fetches[broken] += 1;
      const { status, headers, body } = this[broken];
      if (status === 0) return request.socket.destroy();
      if (status === -1) return undefined;
      if (status !== 200 || body) return response.writeHead(status, headers).end(JSON.stringify(body ?? {}));
      for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
    }
    return this.handler(request, response);
  }
}

class Organisation {
  constructor(name) {
    this.name = name;
    this.custom = new Issuer(`/oauth2/${name}`);
    this.management = new Management(`${origin}/org/${name}`, () => { this.custom.fetches.api += 1; });
  }

  // Made when it is first needed: keys take their time.
  get issuer() {
    return this.own ??= new Issuer(`/org/${this.name}`);
  }
}

const issuers = new Map([['default', new Organisation('default')]]);

const lab = {
  async issuer({ issuer }) {
    if (!/^[a-z0-9-]{1,60}$/.test(issuer ?? '')) throw new Error('issuer is 1 to 60 of a-z, 0-9 and -');
    const made = issuers.get(issuer) ?? new Organisation(issuer);
    issuers.set(issuer, made);
    return { issuer: made.custom.url };
  },
  mint: async (body) => ({ id_token: await find(body).mint(body) }),
  access: async (body) => ({ access_token: await find(body).access(body) }),
  sign: async (body) => ({ token: find(body).sign(body) }),
  rotate: async (body) => ({ kid: find(body).rotate() }),
  async jwks(body) {
    find(body).jwks = { status: body.status ?? 200, headers: body.headers ?? {} };
    return {};
  },
  async userinfo(body) {
    find(body).userinfo = { status: body.status ?? 200, headers: body.headers ?? {}, body: body.body };
    return {};
  },
  okta: async ({ issuer, ...settings }) => organisation(issuer).management.set(settings),
  fetches: async (body) => find(body).fetches,
};

function organisation(name = 'default') {
  const found = issuers.get(name);
  if (!found) throw new Error(`no issuer ${name}; make it by POST /lab/issuer`);
  return found;
}

function find({ issuer, org }) {
  const found = organisation(issuer);
  return org ? found.issuer : found.custom;
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
  const [, kind, name, rest] = /^\/(oauth2|org)\/([a-z0-9-]+)(.*)$/.exec(request.url) ?? [];
  const found = issuers.get(name);
  if (!found) return response.writeHead(404).end();
  if (kind === 'org' && rest.startsWith('/api/v1/')) return found.management.serve(request, response, rest.slice(7));
  return (kind === 'org' ? found.issuer : found.custom).serve(request, response);
});
server.keepAliveTimeout = 60_000;
server.listen(port, '127.0.0.1', () => console.log(`${origin}/oauth2/default`));
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(0));
