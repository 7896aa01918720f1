//! Exactly 100 groups may be all or the first of more: Okta's Groups API knows. The stand-in (tests/peers/oidc/management.mjs)
//! pages, limits rates, fails and lies; whatever it does, the list is whole or nothing is decided.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Client, Database, Oidc, Server, Setup, eventually, on_both_databases};

const CLIENT: [&str; 4] = ["--grant", "urn:ietf:params:oauth:grant-type:token-exchange", "--scope", "read"];
const MAPPING: &str = r#"
[[mapping.rule]]
id = "last"
source = "okta"
match.claim = "/groups"
equals = "g249"
roles = ["last"]

[mapping.defaults]
okta = ["user"]
"#;

struct Ground {
    okta: Oidc,
    server: Server,
    client: Client,
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("g{n:03}")).collect()
}

impl Ground {
    async fn new(database: Database) -> Ground {
        let okta = Oidc::issuer().await;
        let source = format!("base_url = {:?}\napi_token_file = \"okta-token\"\n", okta.org_url());
        let setup = Setup::new(database).file("okta-token", "api-token\n").okta("okta", &okta, &source).config(MAPPING);
        let server = setup.start().await;
        let client = server.client_add(&CLIENT).await;
        okta.okta(json!({"users": {"00ualice": {"groups": names(250)}}})).await;
        Ground { okta, server, client }
    }

    /// An id token with exactly 100 groups.
    async fn cut(&self) -> String {
        self.okta.mint_with(json!({"account": "alice", "claims": {"groups": names(100)}})).await
    }

    async fn exchange(&self, token: &str) -> Answer {
        self.server.exchange(&self.client, token, &[]).await
    }

    async fn roles(&self, token: &str) -> Vec<String> {
        self.server.introspect(&self.client, &self.exchange(token).await.access_token()).await.roles()
    }
}

on_both_databases! {
    async fn every_page_is_read(database) {
        let ground = Ground::new(database).await;
        assert_eq!(ground.roles(&ground.cut().await).await, ["last", "user"]);
        assert_eq!(ground.okta.fetches("api").await, 2, "250 groups are two pages of 200");
        ground.okta.okta(json!({"page": 50})).await;
        assert_eq!(ground.roles(&ground.cut().await).await, ["last", "user"]);
        assert_eq!(ground.okta.fetches("api").await, 7);
        // A list that was not cut after all, and a token without groups.
        ground.okta.okta(json!({"users": {"00ualice": {"groups": names(100)}}})).await;
        assert_eq!(ground.roles(&ground.cut().await).await, ["user"]);
        ground.okta.okta(json!({"users": {"00ualice": {"groups": ["g249"]}}})).await;
        let thin = ground.okta.mint_with(json!({"account": "alice", "claims": {"groups": null}})).await;
        assert_eq!(ground.roles(&thin).await, ["last", "user"]);
        // Ninety-nine are all.
        let asked = ground.okta.fetches("api").await;
        let few = ground.okta.mint_with(json!({"account": "alice", "claims": {"groups": names(99)}})).await;
        assert_eq!(ground.roles(&few).await, ["user"]);
        assert_eq!(ground.okta.fetches("api").await, asked);
        // What the grant recorded is the whole list.
        ground.okta.okta(json!({"users": {"00ualice": {"groups": names(250)}}})).await;
        ground.exchange(&ground.cut().await).await.ok();
        let records = ground.server.rows("SELECT record FROM grants");
        let counts = records.iter().map(|record| serde_json::from_str::<Value>(record).unwrap()["groups"].as_array().unwrap().len());
        assert_eq!(counts.max(), Some(250));
    }

    async fn a_list_that_is_not_whole_decides_nothing(database) {
        let ground = Ground::new(database).await;
        let token = ground.cut().await;
        let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let groups_of = |who: &str| format!("{}/api/v1/users/{who}/groups?after=x", ground.okta.org_url());
        let answer = |what: Value| json!({"answer": what});
        let lies = [
            json!({"next": format!("http://{}/api/v1/users/00ualice/groups", elsewhere.local_addr().unwrap())}),
            json!({"next": "https://elsewhere.test/"}),
            json!({"next": "/api/v1/users/00ualice/groups"}),
            // Another person's groups, and the same page for ever.
            json!({"next": groups_of("00uroot")}),
            json!({"next": groups_of("00ualice")}),
            json!({"next": null, "page": 10}),
            json!({"page": 200, "users": {"00ualice": {"groups": names(2_001)}}}),
            answer(json!({"path": "groups", "status": 500})),
            answer(json!({"path": "groups", "status": 0})),
            answer(json!({"path": "groups", "status": 302, "headers": {"location": groups_of("00ualice")}})),
            answer(json!({"path": "groups", "status": 403})),
            answer(json!({"path": "groups", "status": 200, "body": [], "hold": true})),
            answer(json!({"path": "groups", "status": 200, "body": {"profile": {"name": "g249"}}})),
            answer(json!({"path": "groups", "status": 200, "body": [{"id": "00g1"}]})),
        ];
        for lie in lies {
            ground.okta.okta(lie.clone()).await;
            let answer = ground.exchange(&token).await;
            assert_eq!(answer.status, 503, "{lie}: {}", answer.body);
            answer.unavailable();
        }
        let touched = tokio::time::timeout(Duration::ZERO, elsewhere.accept()).await;
        assert!(touched.is_err(), "the token stays with Okta");
        assert_eq!(ground.server.rows("SELECT COUNT(*) FROM accounts"), ["0"]);
        let log = ground.server.log();
        assert!(log.contains("leads elsewhere") && log.contains("api_token_file") && !log.contains("api-token\n"), "{log}");
        assert!(!log.contains("SSWS api-token"));
        // Whom Okta does not know is refused.
        ground.okta.okta(json!({"answer": null, "users": {"00ualice": null}})).await;
        ground.exchange(&token).await.refused(400, "invalid_request");
        ground.okta.okta(json!({"page": 200, "users": {"00ualice": {"groups": names(250)}}})).await;
        assert_eq!(ground.roles(&token).await, ["last", "user"], "the id token was not used up");
    }

    async fn okta_is_left_alone_when_it_says_so(database) {
        let ground = Ground::new(database).await;
        let token = ground.cut().await;
        ground.okta.okta(json!({"answer": {"path": "groups", "status": 429, "headers": {"retry-after": "2"}}})).await;
        let answer = ground.exchange(&token).await;
        answer.unavailable();
        assert_eq!(answer.header("retry-after"), "2");
        ground.okta.okta(json!({"answer": null})).await;
        ground.exchange(&token).await.unavailable();
        assert_eq!(ground.okta.fetches("api").await, 1, "nothing is asked within the pause");
        eventually(Duration::from_secs(20), "the pause is over", async || ground.exchange(&token).await.status == 200).await;
        // By the second at which Okta counts anew.
        let reset = countersign::clock::Clock::System.now() + 40;
        let headers = json!({"x-rate-limit-reset": reset.to_string()});
        ground.okta.okta(json!({"answer": {"path": "groups", "status": 429, "headers": headers}})).await;
        let wait: u64 = ground.exchange(&ground.cut().await).await.header("retry-after").parse().unwrap();
        assert!((20..=40).contains(&wait), "{wait}");
    }

    async fn the_token_is_replaced_while_the_server_runs(database) {
        let ground = Ground::new(database).await;
        let token = ground.cut().await;
        ground.okta.okta(json!({"token": "the-next-one"})).await;
        ground.exchange(&token).await.unavailable();
        assert!(ground.server.log().contains("make an API token that may read users and groups"), "{}", ground.server.log());
        std::fs::write(ground.server.directory().join("okta-token"), "the-next-one").unwrap();
        ground.exchange(&token).await.ok();
        std::fs::remove_file(ground.server.directory().join("okta-token")).unwrap();
        ground.exchange(&ground.cut().await).await.unavailable();
        assert!(!ground.server.log().contains("the-next-one"));
    }
}

#[tokio::test]
async fn mistakes_are_found_at_the_start() {
    let okta = Oidc::issuer().await;
    let refused = async |content: &str, kind: &str| {
        let section = okta.section("okta", "api_token_file = \"okta-token\"").replace("\"okta\"\nissuer", &format!("{kind:?}\nissuer"));
        Setup::new(Database::sqlite()).file("okta-token", content).config(&section).refused().await
    };
    let said = refused("", "okta").await;
    assert!(said.contains("api_token_file: ") && said.contains("is empty; write an API token of Okta into it"), "{said}");
    let said = refused("SSWS 00abc", "okta").await;
    assert!(said.contains("on one line and without SSWS") && !said.contains("00abc"), "{said}");
    let said = refused("00abc", "oidc").await;
    assert!(said.contains("is for type = \"okta\"") && !said.contains("00abc"), "{said}");
}
