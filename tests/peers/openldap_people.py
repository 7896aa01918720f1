"""Writes the LDIF of the test directory: openldap_people.py COUNT_OF_PLAIN_PEOPLE

People in a state of their own: mustchange (an administrator reset the password), locked (by an administrator), expired (the
password is too old), mallory (a leaver), "o,connor (x)*" and josé (names that need escaping), twin1 and twin2 (one mail address
for two people), nomail. Groups: dave is in lvl1, which is in lvl2, which is in lvl3; loop-a and loop-b contain each other;
unique holds frank by uniqueMember; deep01 to deep12 form a chain that begins with erin. A search of the whole suffix comes upon a referral, under ou=services.

Other kinds of directory, each a subtree with ou=people and ou=groups. posix: pia and "o,connor (x)*" have a primary group (pioneers)
and are listed in painters by uid. ipa: ivy, josé and "o,connor (x)*"; memberOf is as transitive as FreeIPA keeps it and names a role
elsewhere, inez is locked, and ida is listed by a group that her memberOf does not name. lldap: lea and josé have memberOf, and liam is
only listed by his groups.
"""
import base64
import hashlib
import os
import sys
import uuid

SUFFIX = "dc=lab,dc=test"
PEOPLE = f"ou=people,{SUFFIX}"
GROUPS = f"ou=groups,{SUFFIX}"


def escape(value):
    """A value inside a DN (RFC 4514), escaped by hex pairs so that it differs from how slapd writes it back."""
    return "".join(f"\\{ord(c):02X}" if c in ',+"\\<>;=#' else c for c in value)


def person(uid):
    return f"uid={escape(uid)},{PEOPLE}"


def group(cn):
    return f"cn={escape(cn)},{GROUPS}"


def hashed(password):
    salt = os.urandom(8)
    return "{SSHA}" + base64.b64encode(hashlib.sha1(password.encode() + salt).digest() + salt).decode()


def line(key, value):
    safe = value.isascii() and value == value.strip() and value[:1] not in (":", "<", "")
    return f"{key}: {value}" if safe else f"{key}:: {base64.b64encode(value.encode()).decode()}"


def entry(dn, attributes):
    print(line("dn", dn))
    for key, values in attributes.items():
        for value in [values] if isinstance(values, str) else values:
            print(line(key, value))
    print(f"entryUUID: {uuid.uuid5(uuid.NAMESPACE_DNS, dn)}")
    print()


def main(count):
    entry(SUFFIX, {"objectClass": ["dcObject", "organization"], "o": "Lab", "dc": "lab"})
    for unit in ("people", "groups", "policies", "services"):
        entry(f"ou={unit},{SUFFIX}", {"objectClass": "organizationalUnit", "ou": unit})
    service = {"objectClass": ["organizationalRole", "simpleSecurityObject"], "cn": "svc", "userPassword": hashed("svcpw")}
    entry(f"cn=svc,ou=services,{SUFFIX}", service)
    elsewhere = {"objectClass": ["referral", "extensibleObject"], "cn": "elsewhere", "ref": "ldap://127.0.0.1:9/dc=evil,dc=test"}
    entry(f"cn=elsewhere,ou=services,{SUFFIX}", elsewhere)
    common = {
        "objectClass": ["device", "pwdPolicy"],
        "pwdAttribute": "userPassword",
        "pwdLockout": "TRUE",
        "pwdMaxFailure": "5",
        "pwdFailureCountInterval": "300",
        "pwdLockoutDuration": "300",
        "pwdMustChange": "TRUE",
    }
    entry(f"cn=default,ou=policies,{SUFFIX}", {"cn": "default", **common})
    entry(f"cn=ageing,ou=policies,{SUFFIX}", {"cn": "ageing", "pwdMaxAge": "86400", **common})
    entry(f"cn=graceful,ou=policies,{SUFFIX}", {"cn": "graceful", "pwdMaxAge": "86400", "pwdGraceAuthNLimit": "100000", **common})

    old = {"pwdChangedTime": "20200101000000Z"}
    states = {
        "mustchange": {"pwdReset": "TRUE"},
        "locked": {"pwdAccountLockedTime": "000001010000Z"},
        "expired": {**old, "pwdPolicySubentry": f"cn=ageing,ou=policies,{SUFFIX}"},
        "grace": {**old, "pwdPolicySubentry": f"cn=graceful,ou=policies,{SUFFIX}"},
    }
    named = ["alice", "bob", "carol", "dave", "erin", "frank", "mallory", "twin1", "twin2", "nomail", "o,connor (x)*", "josé", *states]
    plain = [f"u{n:05}" for n in range(count)]

    groups = {
        "app-users": ["alice", "bob", "carol", "mustchange", "locked", "expired", "o,connor (x)*", "josé"],
        "ceph-admins": ["alice"],
        "app-team1-write": ["alice", "bob"],
        "app-team2-read": ["carol"],
        "a,b (x)*": ["o,connor (x)*"],
        "leavers": ["mallory"],
    }
    members = {cn: [person(uid) for uid in uids] for cn, uids in groups.items()}
    members |= {"lvl1": [person("dave")], "lvl2": [group("lvl1")], "lvl3": [group("lvl2")]}
    members |= {"loop-a": [group("loop-b"), person("dave")], "loop-b": [group("loop-a")]}
    members |= {"deep01": [person("erin")]}
    members |= {f"deep{n:02}": [group(f"deep{n - 1:02}")] for n in range(2, 13)}
    members |= {f"g{n:05}": [person(f"u{n:05}")] for n in range(0, count, 5)}

    member_of = {}
    for cn, dns in members.items():
        for dn in dns:
            member_of.setdefault(dn, []).append(group(cn))

    for uid in named + plain:
        mail = {"twin1": "twin@lab.test", "twin2": "twin@lab.test", "nomail": []}.get(uid, f"{uid.split(',')[0]}@lab.test")
        attributes = {"objectClass": "inetOrgPerson", "uid": uid, "cn": uid.title(), "sn": uid, "mail": mail}
        attributes |= {"userPassword": hashed(f"pw-{uid}"), "memberOf": member_of.get(person(uid), []), **states.get(uid, {})}
        entry(person(uid), attributes)
    for cn, dns in members.items():
        attributes = {"objectClass": "groupOfNames", "cn": cn, "member": dns, "memberOf": member_of.get(group(cn), [])}
        entry(group(cn), attributes)
    unique = {"objectClass": "groupOfUniqueNames", "cn": "unique", "uniqueMember": person("frank")}
    entry(group("unique"), unique)
    other_kinds()


def other_kinds():
    for kind in ("posix", "ipa", "lldap"):
        entry(f"ou={kind},{SUFFIX}", {"objectClass": "organizationalUnit", "ou": kind})
        for unit in ("people", "groups"):
            entry(f"ou={unit},ou={kind},{SUFFIX}", {"objectClass": "organizationalUnit", "ou": unit})

    def someone(kind, uid, classes, more):
        dn = f"uid={escape(uid)},ou=people,ou={kind},{SUFFIX}"
        attributes = {"objectClass": ["inetOrgPerson", *classes], "uid": uid, "cn": uid.title(), "sn": uid}
        entry(dn, {**attributes, "userPassword": hashed(f"pw-{uid}"), **more})
        return dn

    def named(kind, cn):
        return f"cn={escape(cn)},ou=groups,ou={kind},{SUFFIX}"

    for number, uid in enumerate(("pia", "o,connor (x)*", "paul")):
        account = {"uidNumber": str(5000 + number), "gidNumber": "5000" if uid != "paul" else "5002", "homeDirectory": "/nowhere"}
        someone("posix", uid, ["posixAccount"], account)
    for cn, number, uids in (("pioneers", 5000, []), ("painters", 5001, ["pia", "o,connor (x)*"]), ("potters", 5002, ["somebody"])):
        entry(named("posix", cn), {"objectClass": "posixGroup", "cn": cn, "gidNumber": str(number), "memberUid": uids})

    role = f"cn=role,ou=ipa,{SUFFIX}"
    levels = [named("ipa", cn) for cn in ("direct", "nested", "top, level (x)")]
    people = {}
    for uid in ("ivy", "josé", "o,connor (x)*", "inez", "ida"):
        more = {"ipaUniqueID": str(uuid.uuid5(uuid.NAMESPACE_DNS, f"ipa {uid}"))} | ({"nsAccountLock": "TRUE"} if uid == "inez" else {})
        people[uid] = someone("ipa", uid, ["ipaObject"], more | ({} if uid == "ida" else {"memberOf": [role, *levels]}))
    members = {levels[0]: [people[uid] for uid in people if uid != "ida"], levels[1]: [levels[0]], levels[2]: [levels[1]]}
    members |= {named("ipa", "forgotten"): [people["ida"]]}
    for dn, listed in members.items():
        cn = {levels[2]: "top, level (x)"}.get(dn, dn[3:].split(",")[0])
        entry(dn, {"objectClass": "groupOfNames", "cn": cn, "member": listed})
    entry(role, {"objectClass": "groupOfNames", "cn": "role", "member": list(people.values())})

    team, crew = named("lldap", "team"), named("lldap", "crew (é)")
    for uid in ("lea", "josé"):
        people[uid] = someone("lldap", uid, [], {"memberOf": [team, crew]})
    people["liam"] = someone("lldap", "liam", [], {})
    entry(team, {"objectClass": "groupOfUniqueNames", "cn": "team", "uniqueMember": [people["lea"], people["josé"]]})
    entry(crew, {"objectClass": "groupOfUniqueNames", "cn": "crew (é)", "uniqueMember": list(people[uid] for uid in ("lea", "josé", "liam"))})


main(int(sys.argv[1]))
