"""Writes the LDIF of the 389-ds test directory.

People in a state of their own: inactive (nsAccountLock), mustchange (an administrator reset the password), expired (the password
is too old), locked (dirsrv389.sh fails three times in its name), "o,connor (x)*" and josé (names that need escaping).
Groups: dave is in lvl1, which is in lvl2, which is in lvl3; loop-a and loop-b contain each other, and dave is in
loop-a. memberOf is written by the server's plugin and is transitive.
"""
import base64

SUFFIX = "dc=lab,dc=test"
PEOPLE = f"ou=people,{SUFFIX}"
GROUPS = f"ou=groups,{SUFFIX}"
STATES = {
    "inactive": {"nsAccountLock": "true"},
    "mustchange": {"pwdpolicysubentry": f"cn=strict,ou=policies,{SUFFIX}"},
    "expired": {"pwdpolicysubentry": f"cn=ageing,ou=policies,{SUFFIX}", "passwordExpirationTime": "20200101000000Z"},
}
NAMED = ["alice", "bob", "carol", "dave", "lockme", "locked", "o,connor (x)*", "josé", *STATES]


def escape(value):
    return "".join(f"\\{ord(c):02X}" if c in ',+"\\<>;=#' else c for c in value)


def person(uid):
    return f"uid={escape(uid)},{PEOPLE}"


def group(cn):
    return f"cn={escape(cn)},{GROUPS}"


def line(key, value):
    safe = value.isascii() and value == value.strip() and value[:1] not in (":", "<", "")
    return f"{key}: {value}" if safe else f"{key}:: {base64.b64encode(value.encode()).decode()}"


def entry(dn, attributes, change=None):
    print(line("dn", dn))
    print(f"changetype: {change or 'add'}")
    for key, values in attributes.items():
        for value in [values] if isinstance(values, str) else values:
            print(line(key, value))
    print()


def main():
    rules = [
        f'(targetattr="*")(version 3.0; acl "the service account reads"; allow (read, search, compare) userdn="ldap:///cn=svc,ou=services,{SUFFIX}";)',
        '(targetattr="*")(version 3.0; acl "people read themselves"; allow (read, search, compare) userdn="ldap:///self";)',
        '(targetattr="userPassword")(version 3.0; acl "people change their password"; allow (write) userdn="ldap:///self";)',
    ]
    entry(SUFFIX, {"objectClass": ["top", "domain"], "dc": "lab", "aci": rules})
    for unit in ("people", "groups", "policies", "services"):
        entry(f"ou={unit},{SUFFIX}", {"objectClass": "organizationalUnit", "ou": unit})
    service = {"objectClass": ["organizationalRole", "simpleSecurityObject"], "cn": "svc", "userPassword": "svcpw"}
    entry(f"cn=svc,ou=services,{SUFFIX}", service)
    policy = {"objectClass": ["extensibleObject", "ldapSubentry", "passwordPolicy"], "passwordLockout": "on", "passwordMaxFailure": "3"}
    entry(f"cn=strict,ou=policies,{SUFFIX}", {"cn": "strict", **policy, "passwordMustChange": "on"})
    entry(f"cn=ageing,ou=policies,{SUFFIX}", {"cn": "ageing", **policy, "passwordExp": "on", "passwordMaxAge": "86400"})
    for uid in NAMED:
        name = uid.title()
        attributes = {"objectClass": ["inetOrgPerson", "inetUser"], "uid": uid, "cn": name, "sn": uid, "mail": f"{uid.split(',')[0].replace('é', 'e')}@lab.test"}
        entry(person(uid), {**attributes, "userPassword": f"pw-{uid}", **STATES.get(uid, {})})
    groups = {
        "app-users": [person(uid) for uid in ("alice", "bob", "inactive", "locked", "o,connor (x)*", "josé")],
        "ceph-admins": [person("alice")],
        "a,b (x)*": [person("o,connor (x)*")],
        "lvl1": [person("dave")],
        "lvl2": [group("lvl1")],
        "lvl3": [group("lvl2")],
        "loop-a": [person("dave")],
        "loop-b": [group("loop-a")],
    }
    for cn, members in groups.items():
        entry(group(cn), {"objectClass": ["top", "groupOfNames", "nsMemberOf"], "cn": cn, "member": members})
    entry(group("loop-a"), {"add": "member", "member": group("loop-b")}, "modify")


main()
