//! Another mapping is weighed by people who signed in lately: `explain --diff` tells who would lose what, and a start refuses one by
//! which too many would.

use serde_json::{Value, json};

use crate::harness::{Database, Ldap, Oidc, Server, Setup, on_both_databases};

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const APP: [&str; 8] = ["--grant", "password", "--grant", "refresh_token", "--grant", EXCHANGE, "--scope", "read"];
const PASSWORD: &str = "a lamp beside 7 green doors";
const LOCAL: &str = "[[source]]\nname = \"local\"\ntype = \"local\"\n";

/// Writes another configuration beside the server's: the same sources, and this mapping.
fn write_new(server: &Server, mapping: &str) {
    let text = std::fs::read_to_string(server.directory().join("countersign.toml")).unwrap();
    let (sources, _) = text.split_once("#mapping\n").unwrap();
    std::fs::write(server.directory().join("new.toml"), format!("{sources}#mapping\n{mapping}")).unwrap();
}

fn of<'a>(comparison: &'a Value, username: &str) -> Option<&'a Value> {
    comparison["people"].as_array().unwrap().iter().find(|person| person["username"] == username)
}

on_both_databases! {
    async fn explain_diff_tells_who_would_lose_what(database) {
        let (ldap, okta) = (Ldap::shared(), Oidc::issuer().await);
        let group = ldap.add_group(&[Ldap::SERVICE_DN]);
        let (person, other) = (ldap.add_person(&[&group]), ldap.add_person(&[]));
        let mapping = format!(
            "[mapping]\ndefaults.corp = [\"user\"]\n\
             [[mapping.rule]]\nid = \"builders\"\nsource = \"corp\"\nmatch.dn = \"{}\"\nroles = [\"builder\"]\n\
             [[mapping.rule]]\nid = \"engineers\"\nsource = \"okta\"\nmatch.claim = \"/groups\"\nequals = \"eng\"\nroles = [\"engineer\"]\n",
            Ldap::group_dn(&group)
        );
        let setup = Setup::new(database).ldap("corp", &ldap, "").okta("okta", &okta, "").config(LOCAL).config("#mapping").config(&mapping);
        let server = setup.start().await;
        let client = server.client_add(&APP).await;
        server.user_add("lena", PASSWORD, &["--role", "editor"]).await;
        let lena = server.cli(&["user", "list", "--json"]).await.json()[0]["username"].as_str().unwrap().to_owned();
        server.token(&client, &[("grant_type", "password"), ("username", "lena"), ("password", PASSWORD), ("source", "local")]).await.ok();
        for person in [&person, &other] {
            server.sign_in(&client, &person.uid, &person.password).await.ok();
            server.sign_in(&client, &person.uid, &person.password).await.ok();
        }
        server.exchange(&client, &okta.mint_with(json!({"account": "dana", "claims": {"groups": ["eng"]}})).await, &[]).await.ok();

        // Its own file changes nothing.
        let same = server.cli(&["explain", "--diff", "countersign.toml"]).await.ok();
        assert!(same.starts_with("0 of 4 people would lose a role (0 %), 0 of them could not sign in any more; 0 would gain one\n"), "{same}");

        let changed = mapping.replace("builders\"", "masons\"").replace("\"builder\"", "\"mason\"");
        let deny = format!("{changed}[[mapping.deny]]\nid = \"editors\"\nsource = \"local\"\nmatch.cn = \"x\"\nunder = \"dc=x\"\neffect = \"roles\"\nroles = [\"*\"]\n");
        write_new(&server, &deny);
        let told = server.cli(&["explain", "--diff", "new.toml", "--json"]).await.json();
        assert_eq!((&told["judged"], &told["lose"], &told["gain"], &told["lose_percent"]), (&json!(4), &json!(1), &json!(1), &json!(25.0)));
        let changes = of(&told, &person.uid).unwrap();
        assert_eq!((&changes["lost"][0]["role"], &changes["gained"][0]["role"]), (&json!("builder"), &json!("mason")));
        assert!(changes["lost"][0]["because"][0].as_str().unwrap().starts_with("rule builders, group cn="), "{changes}");
        assert!(of(&told, &other.uid).is_none() && of(&told, &lena).is_none());

        let text = server.cli(&["explain", "--diff", "new.toml", "--source", "corp", "--user", &person.uid]).await.ok();
        assert!(text.contains("\n  - builder (rule builders, group ") && text.contains("\n  + mason (rule masons, group "), "{text}");
        assert!(text.contains("1 of 1 people would lose a role (100 %)"), "{text}");
        assert!(server.cli(&["explain", "--diff", "new.toml", "--user", "nobody"]).await.ok().starts_with("0 of 0 people"));

        // Sign-ins that would end, and a claim that nobody recorded.
        let strict = format!("{}[[mapping.rule]]\nid = \"d\"\nsource = \"okta\"\nmatch.claim = \"/department\"\nequals = \"x\"\nroles = [\"r\"]\n",
            mapping.replace("[mapping]\n", &format!("[mapping]\nrequire_any = [\"dn:{}\"]\n", Ldap::group_dn(&group))));
        write_new(&server, &strict);
        let told = server.cli(&["explain", "--diff", "new.toml", "--json"]).await.json();
        assert_eq!((&told["judged"], &told["lose"], &told["denied"], &told["cannot_be_told"]), (&json!(3), &json!(2), &json!(2), &json!(1)));
        assert!(of(&told, &other.uid).unwrap()["denied"].as_str().unwrap().starts_with("none of require_any matches"));
        assert_eq!(of(&told, &lena).unwrap()["lost"][0]["because"], json!(["given to the account itself"]));
        assert!(of(&told, "dana@okta").unwrap()["cannot_be_told"].as_str().unwrap().contains("/department"), "{told}");
        let text = server.cli(&["explain", "--diff", "new.toml"]).await.ok();
        assert!(text.contains("! could not sign in any more: none of require_any") && text.contains("for 1 more it cannot be told"), "{text}");

        // What cannot be asked.
        server.cli(&["explain", "--diff", "nothing.toml"]).await.failed(1);
        server.cli(&["explain", "--source", "corp"]).await.failed(2);
        server.cli(&["explain", "--source", "corp", "--user", "x", "--recent", "1d"]).await.failed(2);
        [person, other].iter().for_each(|person| ldap.delete(&person.dn));
    }

    async fn a_start_refuses_a_mapping_that_takes_too_much(database) {
        let mapping = "[mapping]\nmax_loss = \"40%\"\ndefaults.local = [\"user\", \"reader\"]\n";
        let mut server = Setup::new(database).config(mapping).start().await;
        let client = server.client_add(&APP).await;
        for (name, role) in [("anna", "reader"), ("berta", "editor")] {
            server.user_add(name, PASSWORD, &["--role", role]).await;
            server.sign_in(&client, name, PASSWORD).await.ok();
        }
        server.restart().await;
        server.kill();

        // berta would lose a role: one of two.
        let takes = mapping.replace(", \"reader\"", "");
        let beside = |mapping: &str| Setup::beside(&server).config(mapping);
        let said = beside(&takes).refused().await;
        assert!(said.contains("second.toml:2:1: mapping.max_loss: by this mapping 1 of 2 people") && said.contains("(50 %)"), "{said}");
        assert!(said.contains("explain --diff") && said.contains("serve --accept-mapping-loss"), "{said}");
        let said = beside(&takes).cli(&["check"]).await.failed(1);
        assert!(said.contains("second.toml:2:1: mapping.max_loss: by this mapping 1 of 2 people"), "{said}");
        let said = beside(&takes.replace("40%", "50%")).cli(&["check"]).await.ok();
        assert!(said.contains("the mapping will change: 1 of 2 people who signed in lately will lose a role (50 %)"), "{said}");
        // The mapping in force is what the file is compared with, whatever the file says by now.
        let told = beside(&takes).cli(&["explain", "--diff", "second.toml"]).await.ok();
        assert!(told.contains("berta of local\n  - reader (default of local)\n1 of 2 people"), "{told}");
        assert!(told.contains("compared with the mapping in force since the last start"), "{told}");

        // A higher bound lets it pass, and so does an operator; a later node with the same mapping is not asked.
        let bold = beside(&takes.replace("40%", "50%")).start().await;
        drop(bold);
        let nothing = "[mapping]\nmax_loss = \"0%\"\n";
        assert!(beside(nothing).refused().await.contains("2 of 2 people"));
        drop(beside(nothing).argument("--accept-mapping-loss").start().await);
        drop(beside(nothing).start().await);
        let audit = server.rows("SELECT detail FROM audit_records WHERE event = 'mapping_changed'");
        let written = |accepted: bool| audit.iter().filter(|row| row.contains(&format!("\"accepted\":{accepted}"))).count();
        assert_eq!((written(false), written(true)), (1, 1), "{audit:?}");
        // More roles are no loss.
        drop(beside(mapping).start().await);
        // What another version wrote down and this one cannot read is weighed by an operator alone.
        server.rows("UPDATE settings SET value = '{}' WHERE name = 'mapping_in_force'");
        let said = beside(mapping).refused().await;
        assert!(said.contains("is not understood") && said.contains("serve --accept-mapping-loss"), "{said}");
        drop(beside(mapping).argument("--accept-mapping-loss").start().await);
        drop(beside(mapping).start().await);
    }

    async fn what_cannot_be_told_counts_as_lost(database) {
        let okta = Oidc::issuer().await;
        let mapping = "[mapping]\nmax_loss = \"40%\"\ndefaults.local = [\"user\"]\n\
             [[mapping.rule]]\nid = \"d\"\nsource = \"okta\"\nmatch.claim = \"/department\"\nequals = \"x\"\nroles = [\"r\"]\n";
        let mut server = Setup::new(database).okta("okta", &okta, "").config(LOCAL).config(mapping).start().await;
        let client = server.client_add(&APP).await;
        server.exchange(&client, &okta.mint_with(json!({"account": "dana"})).await, &[]).await.ok();
        server.kill();
        let beside = |mapping: &str| Setup::beside(&server).okta("okta", &okta, "").config(LOCAL).config(mapping);
        // Nothing changes for those who cannot be judged.
        drop(beside(&mapping.replace("\"user\"", "\"reader\"")).start().await);
        let takes = mapping.replace("\"x\"", "\"y\"");
        let said = beside(&takes).refused().await;
        assert!(said.contains("changes what 1 of 1 people") && said.contains("looks at the claim /department"), "{said}");
        drop(beside(&takes).argument("--accept-mapping-loss").start().await);
        drop(beside(&takes).start().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_bound_a_quarter_of_ten_is_the_bound() {
    let mapping = "[mapping]\ndefaults.local = [\"user\"]\n";
    let mut server = Setup::new(Database::sqlite()).config(mapping).start().await;
    let client = server.client_add(&APP).await;
    let sign_in = async |name: String| {
        server.user_add(&name, PASSWORD, &[]).await;
        server.sign_in(&client, &name, PASSWORD).await.ok();
    };
    for n in 0..9 {
        sign_in(format!("person{n}")).await;
    }
    // Nine are too few for a share to say much.
    drop(Setup::beside(&server).config("").start().await);
    drop(Setup::beside(&server).config(mapping).start().await);
    sign_in("person9".to_owned()).await;
    server.kill();
    let said = Setup::beside(&server).config("").refused().await;
    assert!(said.contains("10 of 10 people") && said.contains("the default of mapping.max_loss is 25%"), "{said}");
}
