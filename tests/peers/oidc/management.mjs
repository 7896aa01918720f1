// A stand-in for Okta's management API, as far as a source asks it: users and their groups. It pages, limits rates, fails and lies,
// as POST /lab/okta says:
//
//   token      the API token that it accepts, "api-token" at first
//   users      {id: {status, groups: [names], login, answers_as}}; added to those that are there, null removes one
//   page       groups in a page, 200 at most
//   answer     {path: "groups" | "user", status, headers, body}: answers this instead; status 0 hangs up; with hold: true not before
//              the next POST /lab/okta; null heals
//   next       a link to the next page that every page ends with, a lie
export class Management {
  constructor(base, count) {
    Object.assign(this, { base, count, token: 'api-token', users: {}, page: 200, answer: null, next: null, held: [] });
  }

  set({ users = {}, ...settings }) {
    Object.assign(this, settings);
    for (const release of this.held.splice(0)) release();
    for (const [id, user] of Object.entries(users)) {
      if (user === null) delete this.users[id];
      else this.users[id] = { ...this.users[id], ...user };
    }
    return {};
  }

  async serve(request, response, rest) {
    this.count();
    const json = (status, body, headers = {}) =>
      response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body));
    const url = new URL(rest, 'http://stand.in');
    const [, asked, groups] = /^\/users\/([^/]+)(\/groups)?$/.exec(url.pathname) ?? [];
    const broken = this.answer?.path === (groups ? 'groups' : 'user') ? this.answer : null;
    if (broken?.hold) await new Promise((release) => { this.held.push(release); });
    if (broken?.status === 0) return request.socket.destroy();
    if (broken) return json(broken.status, broken.body ?? {}, broken.headers);
    if (request.headers.authorization !== `SSWS ${this.token}`) return json(401, { errorCode: 'E0000011' });
    // As Okta does, by id or by login.
    const id = this.users[asked] ? asked : Object.keys(this.users).find((known) => this.users[known].login === asked);
    const user = this.users[id];
    if (!user) return json(404, { errorCode: 'E0000007' });
    if (!groups) return json(200, { id: user.answers_as ?? id, status: user.status ?? 'ACTIVE', profile: { login: user.login ?? id } });
    const size = Math.min(this.page, Number(url.searchParams.get('limit') ?? 10_000));
    const start = Number(url.searchParams.get('after') ?? 0);
    const names = (user.groups ?? []).slice(start, start + size);
    const at = (after) => `${this.base}/api/v1/users/${asked}/groups?${after ? `after=${after}&` : ''}limit=${size}`;
    const links = [`<${at(start)}>; rel="self"`];
    if (this.next) links.push(`<${this.next}>; rel="next"`);
    else if (start + size < (user.groups ?? []).length) links.push(`<${at(start + size)}>; rel="next"`);
    return json(200, names.map((name, n) => ({ id: `00g${start + n}`, type: 'OKTA_GROUP', profile: { name } })), { link: links });
  }
}
