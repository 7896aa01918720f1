"""Adds the people of the test domain to a database that no server has open: samba_people.py DIRECTORY (of the provisioned domain)

People in a state of their own: disabled, acctexp (the account expired), mustchange (at the next sign-in), pwexp (samba.sh makes
the password old), hours (never allowed), ws (only at one workstation), lockme (for tests to lock). Names: unicode (é in it),
"O'Connor, Ann (x)*" who is ann, "josé", and upn, whose userPrincipalName is not made of the sAMAccountName; usurper has victim.of's sAMAccountName in a userPrincipalName. Groups: ok is in lvl1,
which is in lvl2, which is in lvl3, which is in lvl1 again; team is the primary group of primary; "App, Admins (x)" holds ann;
above-team holds team; wide holds the 30 groups g00 to g29, of which many is in every one. The service account may not read the tokenGroups of hidden.
"""
import os
import sys

sys.path.insert(0, "/usr/lib/python3/dist-packages")
import ldb  # noqa: E402
from samba.auth import system_session  # noqa: E402
from samba.param import LoadParm  # noqa: E402
from samba.samdb import SamDB  # noqa: E402
from samba.sd_utils import SDUtils  # noqa: E402

directory = sys.argv[1]
settings = LoadParm()
settings.load(os.path.join(directory, "etc/smb.conf"))
db = SamDB(url=os.path.join(directory, "private/sam.ldb"), session_info=system_session(), lp=settings)
DOMAIN = "DC=lab,DC=example,DC=test"
STAFF = f"OU=Staff,{DOMAIN}"


def escape(value):
    return "".join(f"\\{ord(c):02X}" if c in ',+"\\<>;=#' else c for c in value)


names = {}


def dn(who):
    return f"CN={escape(names.get(who, who))},{STAFF}"


def person(name, cn=None, upn=None, password=None):
    names[name] = cn or name
    account = {
        "dn": dn(name),
        "objectClass": "user",
        "sAMAccountName": name,
        "userPrincipalName": upn or f"{name}@lab.example.test",
        "displayName": (cn or name).title(),
        "mail": f"{name.replace('é', 'e')}@example.test",
    }
    db.add(account)
    db.setpassword(f"(sAMAccountName={ldb.binary_encode(name)})", password or f"Passw0rd!{name}", force_change_at_next_login=False)
    db.enable_account(f"(sAMAccountName={ldb.binary_encode(name)})")


def change(who, attribute, value, how=ldb.FLAG_MOD_REPLACE):
    message = ldb.Message(ldb.Dn(db, dn(who)))
    message[attribute] = ldb.MessageElement(value, how, attribute)
    db.modify(message)


def group(cn, members):
    name = "".join(c for c in cn if c.isalnum())
    db.add({"dn": dn(cn), "objectClass": "group", "sAMAccountName": name, "member": [dn(member) for member in members]})


def identifier(who):
    found = db.search(base=dn(who), scope=ldb.SCOPE_BASE, attrs=["objectSid"])
    return db.schema_format_value("objectSID", found[0]["objectSid"][0]).decode()


db.transaction_start()
db.add({"dn": STAFF, "objectClass": "organizationalUnit"})
for name in "ok disabled acctexp mustchange pwexp hours ws lockme primary plain many hidden".split():
    person(name)
person("svc-read", password="Passw0rd!svc")
person("unicode", cn="Ünï Çödé")
person("josé")
person("ann", cn="O'Connor, Ann (x)*")
person("upn", upn="some.body@example.test")
person("victim.of", upn="victor@example.test")
person("usurper", upn="victim.of@example.test")
change("disabled", "userAccountControl", "514")
change("acctexp", "accountExpires", "120000000000000000")
change("mustchange", "pwdLastSet", "0")
change("hours", "logonHours", b"\0" * 21)
change("ws", "userWorkstations", "SOMEHOST")
group("lvl1", ["ok", "unicode", "disabled", "hidden"])
group("lvl2", ["lvl1"])
group("lvl3", ["lvl2"])
change("lvl1", "member", dn("lvl3"), ldb.FLAG_MOD_ADD)
group("App, Admins (x)", ["ann", "josé"])
group("app-users", ["ok", "ann", "upn", "josé", "unicode", "disabled", "lockme", "hidden"])
group("team", ["primary"])
group("above-team", ["team"])
change("primary", "primaryGroupID", identifier("team").rsplit("-", 1)[1])
TOKEN_GROUPS = "b7c69e6d-2cc7-11d2-854e-00a0c983f608"  # the schema's GUID of the attribute
SDUtils(db).dacl_add_ace(dn("hidden"), f"(OD;;RP;{TOKEN_GROUPS};;{identifier('svc-read')})")
for n in range(30):
    group(f"g{n:02}", ["many"])
group("wide", [f"g{n:02}" for n in range(30)])
db.transaction_commit()
