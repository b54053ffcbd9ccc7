//! A permission, a password or a user is missing: the service reports it, at the start or at runtime;
//! nothing is lost, and the service continues after the repair.

use common::contract::{order_status::OrderStatus, streams::topics};
use redis::aio::MultiplexedConnection;
use stack::{Service, StackOptions, probe::http_status};
use system_tests::{SOON, System, calls, env, eventually, logged, process::process};

use crate::support::{Guarded, ask};

/// The service, the permission that the ACL file lacks, and the report of the service.
const MISSING: [(Service, &str, &str, &str); 12] = [
    (
        Service::Order,
        "~events:{inventory}_check ",
        "XREADGROUP on events:{inventory}_check",
        "+xreadgroup)",
    ),
    (Service::Order, " +zrangebylex", "ZRANGEBYLEX on {order}:status:pending", "+zrangebylex)"),
    (Service::Order, " +xinfo|stream", "XINFO STREAM on events:{order}_created", "+xinfo|stream)"),
    (
        Service::Order,
        "(~{inventory}:store ~{account}:store +get)",
        "GET on {inventory}:store",
        "+get)",
    ),
    (Service::Inventory, " +xack", "XACK on events:{inventory}_created", "+xack)"),
    (Service::Inventory, "~events:{order}_shipped ", "XREADGROUP on ", "~events:{order}_shipped"),
    (Service::Inventory, " ~events:{inventory}_*", "XADD on events:{inventory}_check", "+xadd)"),
    (
        Service::Account,
        "+xgroup|create ",
        "XGROUP CREATE on events:{account}_created",
        "+xgroup|create)",
    ),
    (Service::Account, "+eval +evalsha", "EVALSHA on {account}:entity:0", "+evalsha)"),
    (Service::Account, "+xadd ", "XADD on events:{account}_topped-up", "+xadd)"),
    (Service::Message, "+mset ", "MSET on {message}:entity:0", "+mset)"),
    (
        Service::Message,
        " +xgroup|setid",
        "XGROUP SETID on events:{order}_created",
        "+xgroup|setid)",
    ),
];

/// The ACL file without a permission in the entry of one user.
fn without(text: &str, user: &str, what: &str) -> String {
    let begin = text.find(&format!("user {user} ")).expect("the user");
    let end = begin + text[begin..].find("\n\n").expect("an end");
    let entry = &text[begin..end];
    assert!(entry.contains(what), "{what} is not in {entry}");
    format!("{}{}{}", &text[..begin], entry.replacen(what, "", 1), &text[end..])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_names_a_missing_permission_and_ends() {
    for (service, taken, missing, grant) in MISSING {
        let user = service.redis_user();
        let redis = Guarded::start_with(|text| without(&text, user, taken));
        let dir = tempfile::tempdir().unwrap();
        let mut process = redis.process(dir.path(), service);
        let status =
            process.wait(SOON).unwrap_or_else(|it| panic!("{taken}: {it}\n{}", process.logs()));
        let log = process.logs();
        assert_eq!(status.code(), Some(1), "{service} {taken}: {log}");
        let expected = format!("its user {user} lacks permissions: ");
        for part in [&expected, missing, grant, "docs/redis-security.md"] {
            assert!(log.contains(part), "{service} {taken}: no {part:?} in {log}");
        }
    }
}

#[tokio::test]
async fn a_gateway_names_a_missing_permission_and_ends() {
    for (taken, missing) in [
        ("~events:{inventory}_restock ", "XADD on events:{inventory}_restock"),
        ("%R~{account}:deposit:*", "GET on {account}:deposit:0"),
        ("+lrange ", "LRANGE on {order}:index"),
        ("+xread ", "XREAD on events:{order}_created"),
    ] {
        let redis = Guarded::start_with(|text| without(&text, "gateway", taken));
        let dir = tempfile::tempdir().unwrap();
        let mut process = redis.process(dir.path(), Service::Gateway);
        let status =
            process.wait(SOON).unwrap_or_else(|it| panic!("{taken}: {it}\n{}", process.logs()));
        let log = process.logs();
        assert_eq!(status.code(), Some(1), "{taken}: {log}");
        assert!(
            log.contains("its user gateway lacks permissions") && log.contains(missing),
            "{taken}: {log}"
        );
    }
}

/// The log, as soon as it contains this text.
async fn says(process: &stack::ServiceProcess, what: &str) {
    logged(what, || process.logs()).await;
}

#[tokio::test]
async fn a_service_without_the_permission_for_info_reports_it() {
    let redis = Guarded::start_with(|text| without(&text, "message", " +info"));
    let dir = tempfile::tempdir().unwrap();
    let mut process = redis.process(dir.path(), Service::Message);
    says(&process, "denies INFO to the user message").await;
    assert!(process.is_running());
    assert_eq!(process.logs().matches("denies INFO").count(), 1, "whichever part is first");

    let redis = Guarded::start_with(|text| without(&text, "message", " +acl|dryrun"));
    let process = redis.process(dir.path(), Service::Message);
    says(&process, "cannot be checked").await;
    says(&process, "created a new store id").await;
}

#[tokio::test]
async fn a_service_with_a_wrong_user_or_password_names_the_variable_and_waits() {
    let redis = Guarded::start();
    let dir = tempfile::tempdir().unwrap();
    let url = redis.server.url();
    for service in
        [Service::Order, Service::Inventory, Service::Account, Service::Message, Service::Gateway]
    {
        let mut unnamed = process(dir.path(), service, &[("REDIS_URL", &url)], &[]);
        says(&unnamed, "it requires a user name and a password").await;
        says(&unnamed, "REDIS_PASSWORD").await;
        assert!(unnamed.is_running(), "{service}");
        not_unchecked(&unnamed);
        let own = redis.url_of(service.redis_user());
        let other = redis.users.password_file("operator").display().to_string();
        let env = [("REDIS_URL", &*own), ("REDIS_PASSWORD_FILE", &*other)];
        let mut wrong = process(dir.path(), service, &env, &[]);
        says(&wrong, &format!("denies AUTH to the user {}", service.redis_user())).await;
        assert!(wrong.is_running(), "{service}: a password may be changed while a service waits");
        not_unchecked(&wrong);
    }
}

/// Permissions are checked after the login; before, no missing permission can be known.
fn not_unchecked(process: &stack::ServiceProcess) {
    let log = process.logs();
    assert!(!log.contains("cannot be checked"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn permissions_are_checked_after_a_wrong_password_is_corrected() {
    for (service, taken, missing) in [
        (Service::Order, " +zrangebylex", "ZRANGEBYLEX on {order}:status:pending"),
        (Service::Inventory, " +xack", "XACK on events:{inventory}_created"),
        (Service::Gateway, "+xread ", "XREAD on events:{"),
    ] {
        let user = service.redis_user();
        let redis = Guarded::start_with(|text| without(&text, user, taken));
        let mut operator = redis.connect("operator").await;
        ask(&mut operator, &format!("ACL SETUSER {user} resetpass >another")).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut process = redis.process(dir.path(), service);
        says(&process, &format!("denies AUTH to the user {user}")).await;
        not_unchecked(&process);
        restore_password(&redis, user).await;
        ends_for_want_of(&mut process, missing);
    }
}

#[tokio::test]
async fn a_gateway_checks_the_redis_of_messages_after_its_password_is_corrected() {
    let redis = Guarded::start();
    let messages = Guarded::start_with(|text| without(&text, "gateway", "+lrange "));
    let url = redis.url_of("gateway");
    // Each Redis has its own passwords; the one in the URL takes precedence over the setting.
    let password = std::fs::read_to_string(messages.users.password_file("gateway")).unwrap();
    let there = format!("{}&pass={}", messages.url_of("gateway"), password.trim());
    let mut operator = messages.connect("operator").await;
    ask(&mut operator, "ACL SETUSER gateway resetpass >another").await.unwrap();
    let file = redis.users.password_file("gateway").display().to_string();
    let env = [("REDIS_URL", &*url), ("MESSAGE_REDIS_URL", &there), ("REDIS_PASSWORD_FILE", &file)];
    let dir = tempfile::tempdir().unwrap();
    let mut process = process(dir.path(), Service::Gateway, &env, &[]);
    says(&process, "denies AUTH to the user gateway").await;
    not_unchecked(&process);
    restore_password(&messages, "gateway").await;
    ends_for_want_of(&mut process, "LRANGE on {message}:index:0");
}

/// Restores the user's password that the service uses.
async fn restore_password(redis: &Guarded, user: &str) {
    let mut operator = redis.connect("operator").await;
    let password = std::fs::read_to_string(redis.users.password_file(user)).unwrap();
    let repair = format!("ACL SETUSER {user} resetpass >{}", password.trim());
    ask(&mut operator, &repair).await.unwrap();
}

/// Waits until the process ends, and checks that it names the permission.
fn ends_for_want_of(process: &mut stack::ServiceProcess, missing: &str) {
    let status = process.wait(SOON).unwrap_or_else(|it| panic!("{it}\n{}", process.logs()));
    let log = process.logs();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("lacks permissions: ") && log.contains(missing), "{log}");
}

fn options() -> StackOptions {
    let env = env(&[
        ("CLAIM_IDLE_MS", "1000"),
        ("RESEND_AFTER_MS", "500"),
        ("LOG_LEVEL", "debug,hyper=info"),
    ]);
    StackOptions { acl: true, env, ..StackOptions::default() }
}

/// The number of reports in the log.
fn reports(system: &System, service: Service, what: &str) -> usize {
    system.logs(service).lines().filter(|line| line.contains(what)).count()
}

#[tokio::test]
async fn a_permission_revoked_at_runtime_is_reported_once_and_work_continues_later() {
    let mut system = System::start_with(options()).await;
    system.init_data().await;
    let mut operator = system.redis().await;
    // The service, the revoked permission, the text in the log, and whether orders wait meanwhile.
    let cases = [
        (Service::Inventory, "mget", "denies MGET to the user inventory", true),
        (Service::Account, "evalsha", "denies the commit to the user account", true),
        (Service::Account, "xadd", "it has no permission to XADD on events:{account}_", true),
        (Service::Order, "xack", "denies XACK to the user order", false),
        (Service::Order, "zrangebylex", "'zrangebylex'", false),
        (Service::Message, "setnx", "denies SETNX to the user message", false),
        (Service::Inventory, "xpending", "denies XPENDING to the user inventory", false),
    ];
    for (service, right, expected, waits) in cases {
        let user = service.redis_user();
        let before = errors(&system, service, expected);
        let give_back = take(&mut operator, user, right).await;
        let order = system.place(&["202"], "103").await;
        eventually("the report", SOON, async || {
            let is_reported = errors(&system, service, expected) > before;
            if is_reported { Ok(()) } else { Err(system.logs(service)) }
        })
        .await;
        if waits {
            assert_ne!(system.order_now(&order).await.status, OrderStatus::ToBeShipped, "{right}");
            // No partial effects: no payment is taken without its event.
            let id = order.id.to_string();
            let logs = system.logs(service);
            let mut lines = logs.lines();
            let is_charged = |it: &str| it.contains("payment accepted") && it.contains(&id);
            assert!(!lines.any(is_charged), "{right}: {logs}");
        } else {
            system.reaches(&order, OrderStatus::ToBeShipped).await;
        }
        are_tried_again(&mut operator).await;
        assert!(!system.first(service).is_ready(), "{right}: {}", system.logs(service));
        assert_eq!(errors(&system, service, expected), before + 1, "{}", system.logs(service));
        ask(&mut operator, &give_back).await.unwrap();
        system.reaches(&order, OrderStatus::ToBeShipped).await;
        system.wait_ready().await;
        ask(&mut operator, "ACL LOG RESET").await.unwrap();
        system.restock("202", 5).await;
        system.top_up("103", 1_000).await;
    }
    system.assert_balanced(SOON).await;
}

/// Revokes the permission of the user everywhere, including the streams of others; returns the command that
/// restores it.
async fn take(operator: &mut MultiplexedConnection, user: &str, right: &str) -> String {
    let list = ask(operator, "ACL LIST").await.unwrap();
    let list: Vec<String> = redis::from_redis_value(list).unwrap();
    let begin = format!("user {user} ");
    let entry = list.iter().find(|line| line.starts_with(&begin)).expect("the user");
    let selectors = &entry[entry.find('(').expect("a selector")..];
    let change = |selectors: &str| format!("ACL SETUSER {user} clearselectors {selectors}");
    let without = selectors.replace(&format!("+{right} "), "").replace(&format!(" +{right})"), ")");
    assert_ne!(without, selectors, "{user} has no +{right}");
    ask(operator, &change(&without)).await.unwrap();
    change(selectors)
}

/// The number of reports with the level ERROR.
fn errors(system: &System, service: Service, what: &str) -> usize {
    let log = system.logs(service);
    log.lines().filter(|line| line.contains("ERROR") && line.contains(what)).count()
}

#[tokio::test]
async fn a_missing_permission_of_the_trimmer_is_reported_at_its_use() {
    let redis = Guarded::start();
    let mut operator = redis.connect("operator").await;
    let dir = tempfile::tempdir().unwrap();
    let ops = format!("127.0.0.1:{}", stack::ports::free());
    let file = redis.users.password_file("inventory").display().to_string();
    let env = [
        ("REDIS_URL", &*redis.url_of("inventory")),
        ("REDIS_PASSWORD_FILE", &file),
        ("STREAM_KEEP", "1"),
        ("OPS_ADDR", &ops),
    ];
    let process = process(dir.path(), Service::Inventory, &env, &[]);
    says_ready(&ops, 200).await;
    let give_back = take(&mut operator, "inventory", "xtrim").await;
    for _ in 0..3 {
        ask(&mut operator, "XADD events:{inventory}_updated * entity {}").await.unwrap();
    }
    says_ready(&ops, 503).await;
    are_tried_again(&mut operator).await;
    let log = process.logs();
    let reported =
        log.lines().filter(|line| line.contains("ERROR") && line.contains("the trimmer"));
    assert_eq!(reported.count(), 1, "{log}");
    assert!(log.contains("denies EVAL trim.lua to the user inventory"), "{log}");
    says_ready(&ops, 503).await;
    ask(&mut operator, &give_back).await.unwrap();
    says_ready(&ops, 200).await;
}

/// Waits until Redis has refused some more commands: the service retries after its report.
async fn are_tried_again(operator: &mut MultiplexedConnection) {
    let begin = refusals(operator).await;
    eventually("it is tried again", SOON, async || {
        let count = refusals(operator).await;
        if count >= begin + 3 { Ok(()) } else { Err(format!("{begin}, {count}")) }
    })
    .await;
}

/// The number of error replies of this Redis, and of its commits: a commit reports a missing permission in
/// its reply.
async fn refusals(operator: &mut MultiplexedConnection) -> u64 {
    let info = ask(operator, "INFO errorstats").await.unwrap();
    let info: String = redis::from_redis_value(info).unwrap();
    let counts = info.lines().filter_map(|line| line.split_once(":count="));
    let errors: u64 = counts.map(|(_, count)| count.trim().parse::<u64>().expect("a number")).sum();
    errors + calls(operator, "evalsha").await
}

/// The answer of the operations port, as soon as it contains this text. The trimmer runs every half minute.
async fn says_ready(ops: &str, expected: u16) {
    let ops = ops.parse().expect("an address");
    eventually("its readiness", SOON * 3, async || match http_status(ops, "/readyz") {
        Ok(status) if status == expected => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_permission_revoked_in_the_redis_of_another_is_reported_once_as_well() {
    let options = StackOptions { isolated: true, ..options() };
    let mut system = System::start_with(options).await;
    system.init_data().await;
    // The Redis, and the permission of order_service there: for acknowledgements or for checkpoints.
    let cases = [
        (topics::INVENTORY, "xack", "denies XACK to the user order"),
        (topics::ORDER, "hset", "denies HSET to the user order"),
    ];
    for (topic, right, expected) in cases {
        let mut operator = system.redis_of(topic).await;
        let give_back = take(&mut operator, "order", right).await;
        let order = system.place(&["202"], "103").await;
        system.reaches(&order, OrderStatus::ToBeShipped).await;
        eventually("the report", SOON, async || {
            let is_reported = errors(&system, Service::Order, expected) > 0;
            if is_reported { Ok(()) } else { Err(system.logs(Service::Order)) }
        })
        .await;
        are_tried_again(&mut operator).await;
        assert!(!system.first(Service::Order).is_ready(), "{right}");
        assert_eq!(errors(&system, Service::Order, expected), 1, "{}", system.logs(Service::Order));
        ask(&mut operator, &give_back).await.unwrap();
        system.wait_ready().await;
        system.restock("202", 5).await;
        system.top_up("103", 1_000).await;
    }
    system.assert_balanced(SOON).await;
}

#[tokio::test]
async fn a_password_changed_at_runtime_is_reported_once_and_nothing_is_lost() {
    let mut system = System::start_with(options()).await;
    system.init_data().await;
    let mut operator = system.redis().await;
    let users = system.stack.dir().join("users");
    let password = std::fs::read_to_string(users.join("redis-account")).unwrap();
    ask(&mut operator, "ACL SETUSER account resetpass >another").await.unwrap();
    ask(&mut operator, "CLIENT KILL USER account").await.unwrap();
    let expected = "denies AUTH to the user account: wrong user name or password";
    eventually("the report", SOON, async || {
        let count = reports(&system, Service::Account, expected);
        if count > 0 { Ok(()) } else { Err(system.logs(Service::Account)) }
    })
    .await;
    let order = system.place(&["204"], "101").await;
    system.reaches(&order, OrderStatus::PaymentRequired).await;
    assert!(!system.first(Service::Account).is_ready());
    assert!(reports(&system, Service::Account, expected) <= 2, "{}", system.logs(Service::Account));
    ask(&mut operator, &format!("ACL SETUSER account resetpass >{password}")).await.unwrap();
    system.reaches(&order, OrderStatus::ToBeShipped).await;
    system.wait_ready().await;
    system.assert_balanced(SOON).await;
    assert!(!system.logs(Service::Account).contains(&password));
}
