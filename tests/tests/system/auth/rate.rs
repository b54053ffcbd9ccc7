//! How often somebody may ask, wherever from and with whichever of their tokens.

use std::time::Instant;

use http::Method;
use serde_json::Value;

use super::{Site, assert_problem};

#[tokio::test]
async fn each_subject_has_a_rate_of_its_own_also_on_this_machine_and_with_another_token() {
    let site = Site::start_with(&[("RATE_PER_SUBJECT", "1/s:3")]).await;
    let ask = async |token: &str| site.ask(token, Method::GET, "/orders", &Value::Null).await;
    let both = [site.token_of("101", "orders:read"), site.token_of("101", "admin")];
    let (begin, mut served, mut refused) = (Instant::now(), 0, [0, 0]);
    for _ in 0..20 {
        for (token, refused) in both.iter().zip(&mut refused) {
            let answer = ask(token).await;
            if answer.status == 200 {
                served += 1;
            } else {
                assert_problem("too often", &answer, 429, "too-many-requests");
                assert_eq!(answer.header("retry-after"), "1");
                *refused += 1;
            }
        }
    }
    assert!(served >= 3 && served <= 4 + begin.elapsed().as_secs(), "{served} of 40");
    assert!(refused.iter().all(|count| *count > 0), "{refused:?}");
    // Others are not concerned; and who is not let in is told just that.
    for _ in 0..3 {
        assert_eq!(ask(&site.token_of("102", "orders:read")).await.status, 200);
    }
    for _ in 0..5 {
        assert_problem("nobody", &ask("none").await, 401, "unauthenticated");
    }
}
