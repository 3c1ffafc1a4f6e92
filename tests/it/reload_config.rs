//! A changed configuration file: taken whole or not at all, and nobody else is disturbed.

use std::net::TcpStream;

use crate::harness::{Lab, Origin, Process, Sortie, eventually, free_address, get};

/// Two hosts in mutual TLS, each with an upstream of its own.
fn two(lab: &Lab, first: u16, second: u16) -> String {
    format!(
        "upstreams:\n  - {{name: a, endpoints: [\"127.0.0.1:{first}\"], tls: {tls}}}\n  \
         - {{name: b, endpoints: [\"127.0.0.1:{second}\"], tls: {tls}}}\n\
         routes:\n  - {{host: a.example, upstream: a}}\n  - {{host: b.example, upstream: b}}\n",
        tls = lab.mutual()
    )
}

fn server(lab: &Lab, name: &str) -> Origin {
    let identity = lab.servers.server(&["a.example", "b.example", "c.example"]);
    Origin::tls(&identity)
        .demands(&lab.clients)
        .named(name)
        .start()
}

#[test]
fn a_new_table_is_taken_without_losing_a_request_or_a_connection() {
    let lab = Lab::new();
    let (first, second, third) = (server(&lab, "1"), server(&lab, "2"), server(&lab, "3"));
    let sortie = Sortie::start(&two(&lab, first.port(), second.port()));
    let mut wire = sortie.wire();
    assert_eq!(
        wire.get("a.example", "/").expect(200).header("x-origin"),
        Some("1")
    );
    sortie.configure(&two(&lab, third.port(), second.port()));
    // No reload is asked for: the watch sees it.
    eventually("the new table is used", || {
        let answer = wire.get("a.example", "/").expect(200);
        (answer.header("x-origin") == Some("3")).then_some(())
    });
}

#[test]
fn an_upstream_that_did_not_change_keeps_its_warm_connections() {
    let lab = Lab::new();
    let (first, second, third) = (server(&lab, "1"), server(&lab, "2"), server(&lab, "3"));
    let config = two(&lab, first.port(), second.port());
    let sortie = Sortie::builder(&config)
        .with(|options| options.workers = Some(1))
        .start();
    sortie.get("a.example", "/").expect(200);
    sortie.get("b.example", "/").expect(200);
    sortie.configure(&two(&lab, third.port(), second.port()));
    eventually("the new table is used", || {
        let answer = sortie.get("a.example", "/").expect(200);
        (answer.header("x-origin") == Some("3")).then_some(())
    });
    sortie.get("b.example", "/").expect(200);
    assert_eq!(
        second.seen().len(),
        1,
        "a connection of an untouched upstream was given up"
    );
    eventually("the old upstream's idle connection is closed", || {
        (first.open() == 0).then_some(())
    });
}

#[test]
fn a_request_keeps_the_table_that_it_began_with() {
    let lab = Lab::new();
    let (first, second) = (server(&lab, "1"), server(&lab, "2"));
    let sortie = Sortie::start(&two(&lab, first.port(), second.port()));
    let mut slow = sortie.wire();
    slow.send("GET /drip/10/100 HTTP/1.1\r\nHost: a.example\r\n\r\n");
    eventually("it has begun", || (first.asked().len() == 1).then_some(()));
    sortie.configure(&two(&lab, second.port(), second.port()));
    eventually("the new table is used", || {
        let answer = sortie.get("a.example", "/").expect(200);
        (answer.header("x-origin") == Some("2")).then_some(())
    });
    assert!(slow.answer().expect(200).text().ends_with("line 9\n"));
}

#[test]
fn a_broken_file_changes_nothing_and_is_told() {
    let lab = Lab::new();
    let (first, second) = (server(&lab, "1"), server(&lab, "2"));
    let good = two(&lab, first.port(), second.port());
    let sortie = Sortie::start(&good);
    sortie.get("a.example", "/").expect(200);
    let broken = [
        ("not YAML", "upstreams: [".to_string()),
        ("an unknown key", good.replace("endpoints", "endpoint")),
        (
            "an unknown upstream",
            good.replace("upstream: b", "upstream: c"),
        ),
        ("nothing at all", String::new()),
    ];
    for (what, config) in broken {
        let failures = sortie.metric(&["sortie_config_reloads_total", "refused"]);
        sortie.configure(&config);
        eventually(&format!("{what} is counted as a failure"), || {
            (sortie.metric(&["sortie_config_reloads_total", "refused"]) > failures).then_some(())
        });
        let said = sortie.admin_post("/reload").expect(422).text();
        assert!(
            said.contains("sortie.yaml"),
            "{what}: the file is not named: {said}"
        );
        sortie.get("a.example", "/").expect(200);
        sortie.get("b.example", "/").expect(200);
        assert_eq!(sortie.admin_get("/ready").status, 200, "{what}");
    }
    // A good one afterwards is taken.
    sortie.configure(&good.replace("host: b.example", "host: c.example"));
    eventually("the good table is used", || {
        (sortie.get("c.example", "/").status == 200).then_some(())
    });
    sortie.get("b.example", "/").expect(502);
}

#[test]
fn a_new_credential_in_the_configuration_is_used_from_the_next_request_on() {
    let lab = Lab::new();
    lab.clients.client("other").write(lab.path(), "other");
    let bank = lab.bank().start();
    let sortie = lab.sortie(bank.port());
    sortie.get("bank.example", "/").expect(200);
    sortie.configure(&lab.config(bank.port()).replace("client.", "other."));
    eventually("the other identity is shown", || {
        sortie.get("bank.example", "/").expect(200);
        bank.seen()
            .iter()
            .any(|seen| seen.client.as_deref() == Some("CN=other"))
            .then_some(())
    });
}

#[test]
fn listeners_come_and_go_with_the_file() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.config(bank.port());
    let sortie = lab.sortie(bank.port());
    let more = free_address();
    let listens = || TcpStream::connect(more).is_ok();
    assert!(!listens());
    sortie.configure(&format!("listeners: [{{address: \"{more}\"}}]\n{config}"));
    eventually("the new listener is open", || listens().then_some(()));
    get(more, "bank.example", "/").expect(200);
    sortie.configure(&config);
    eventually("it is closed again", || (!listens()).then_some(()));
    sortie.get("bank.example", "/").expect(200);
}

#[test]
fn a_listener_may_change_its_address_and_keep_its_port() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let config = lab.config(bank.port());
    let port = free_address().port();
    let listeners =
        |address: &str| format!("listeners: [{{address: \"{address}:{port}\"}}]\n{config}");
    let sortie = Sortie::start(&listeners("0.0.0.0"));
    let at = |address: &str| TcpStream::connect((address, port)).is_ok();
    assert!(at("127.0.0.1") && at("127.0.0.2"));
    sortie.configure(&listeners("127.0.0.1"));
    eventually("the other addresses are closed", || {
        (!at("127.0.0.2")).then_some(())
    });
    get(([127, 0, 0, 1], port).into(), "bank.example", "/").expect(200);
}

#[test]
fn both_families_may_have_one_port() {
    let lab = Lab::new();
    let bank = lab.bank().start();
    let port = free_address().port();
    let both =
        format!("listeners: [{{address: \"0.0.0.0:{port}\"}}, {{address: \"[::]:{port}\"}}]\n");
    let sortie = Sortie::start(&(both + &lab.config(bank.port())));
    get(([127, 0, 0, 1], port).into(), "bank.example", "/").expect(200);
    let v6 = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
    get(v6, "bank.example", "/").expect(200);
    drop(sortie);
}

#[test]
fn reloads_under_load_lose_no_request() {
    let lab = Lab::new();
    let (first, second) = (server(&lab, "1"), server(&lab, "2"));
    let tables = [
        two(&lab, first.port(), second.port()),
        two(&lab, second.port(), first.port()),
        two(&lab, first.port(), first.port()),
    ];
    let sortie = Sortie::start(&tables[0]);
    let load = crate::harness::Load::start(sortie.address(), &["a.example", "b.example"]);
    let mut reloads = 0;
    while reloads < 100 || load.answered() < 200 {
        sortie.configure(&tables[reloads % tables.len()]);
        sortie.admin_post("/reload").expect(200);
        reloads += 1;
    }
    let (answered, lost) = load.stop();
    assert!(
        lost.is_empty(),
        "{} of {answered} lost: {:?}",
        lost.len(),
        &lost[..lost.len().min(5)]
    );
}

#[test]
fn a_folder_that_kubernetes_mounts_is_followed_through_its_data_link() {
    use std::os::unix::fs::symlink;
    let lab = Lab::new();
    let (first, second) = (server(&lab, "1"), server(&lab, "2"));
    let mount = tempfile::tempdir().unwrap();
    let generation = |name: &str, config: &str| {
        std::fs::create_dir(mount.path().join(name)).unwrap();
        std::fs::write(mount.path().join(name).join("routes.yaml"), config).unwrap();
    };
    generation("..2026_01", &two(&lab, first.port(), first.port()));
    symlink("..2026_01", mount.path().join("..data")).unwrap();
    symlink("..data/routes.yaml", mount.path().join("routes.yaml")).unwrap();
    let sortie = Sortie::builder("")
        .with(|options| options.config = vec![mount.path().to_path_buf()])
        .start();
    let whose = || {
        sortie
            .get("a.example", "/")
            .expect(200)
            .header("x-origin")
            .unwrap()
            .to_string()
    };
    assert_eq!(whose(), "1");
    generation("..2026_02", &two(&lab, second.port(), second.port()));
    symlink("..2026_02", mount.path().join("..data_tmp")).unwrap();
    std::fs::rename(mount.path().join("..data_tmp"), mount.path().join("..data")).unwrap();
    std::fs::remove_dir_all(mount.path().join("..2026_01")).unwrap();
    eventually("the new generation is used", || {
        (whose() == "2").then_some(())
    });
}

#[test]
fn several_files_are_one_configuration() {
    let lab = Lab::new();
    let bank = server(&lab, "bank");
    let all = two(&lab, bank.port(), bank.port());
    let (upstreams, routes) = all.split_once("routes:").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("a.yaml"), folder.path().join("b.yaml"));
    std::fs::write(&one, upstreams).unwrap();
    std::fs::write(&other, format!("routes:{routes}")).unwrap();
    let sortie = Sortie::builder("")
        .with(|o| o.config = vec![one, other])
        .start();
    sortie.get("a.example", "/").expect(200);
    sortie.get("b.example", "/").expect(200);
}

#[test]
fn r18_sighup_reloads() {
    let lab = Lab::new();
    let (first, second) = (server(&lab, "1"), server(&lab, "2"));
    let file = lab.path().join("sortie.yaml");
    // The poll is an hour away, and a hint of the watch would be as good: either way, it is taken.
    let config = |port| "rotation: {poll: 1h}\n".to_string() + &two(&lab, port, port);
    std::fs::write(&file, config(first.port())).unwrap();
    let process = Process::run(&file, "", &[]);
    std::fs::write(&file, config(second.port())).unwrap();
    process.signal("HUP");
    eventually("the new table is used", || {
        let answer = get(process.address, "a.example", "/").expect(200);
        (answer.header("x-origin") == Some("2")).then_some(())
    });
}
