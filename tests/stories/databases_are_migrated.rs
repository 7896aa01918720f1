//! A command never migrates a database behind the operator's back: it says what is missing, and `countersign migrate` does it.

use crate::harness::{Setup, on_both_databases};

on_both_databases! {
    async fn by_the_command_that_is_there_for_it(database) {
        let setup = Setup::new(database);
        for command in [&["client", "list"][..], &["user", "list"], &["keys", "list"], &["revoke", "--all"]] {
            let said = setup.cli(command).await.failed(1);
            assert!(said.contains("lacks the migrations") && said.contains("countersign migrate"), "{command:?}: {said}");
        }
        let checked = setup.cli(&["check"]).await.ok();
        assert!(checked.contains("at the next start") || checked.contains("at the first start"), "{checked}");

        let done = setup.cli(&["migrate"]).await.ok();
        let mut names = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
        assert!(names.all(|name| done.contains(&format!("_{}", name.unwrap().file_name().to_str().unwrap().split_once('_').unwrap().1))), "{done}");
        assert!(done.lines().all(|line| line.starts_with("applied ")), "{done}");
        let again = setup.cli(&["migrate"]).await.ok();
        assert!(again.contains("is up to date") && !again.contains("applied"), "{again}");

        assert_eq!(setup.cli(&["client", "list"]).await.ok(), "");
        let server = setup.start().await;
        let client = server.client_add(&["--grant", "client_credentials"]).await;
        server.own_token(&client).await;
    }
}
