//! The backlog of a consumer group, and the limit beyond which requests are refused.

use std::str::FromStr;

use crate::{http::problem::Problem, schema::stream::Stream};

/// The seconds after which a request that was refused because of a backlog may be repeated.
const RETRY_SECONDS: u16 = 5;

/// The backlog of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backlog {
    /// The service that is behind.
    pub service: &'static str,
    /// The stream that it reads.
    pub stream: Stream,
    /// The number of unread and pending entries.
    pub entries: u64,
}

impl Backlog {
    /// 503: the service has to catch up first.
    pub fn problem(&self) -> Problem {
        let Self { service, stream, entries } = self;
        let detail = format!(
            "{service} is behind: {entries} entries of {stream} are to be handled; repeat the request \
             later, with the same Idempotency-Key if it takes one"
        );
        let mut problem = Problem::unavailable(detail);
        problem.retry_after = Some(RETRY_SECONDS);
        problem
    }
}

/// The largest backlog of a service at which requests are accepted; `off` for no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxBacklog(Option<u64>);

impl MaxBacklog {
    /// Whether there is no limit.
    pub const fn is_off(self) -> bool {
        self.0.is_none()
    }

    /// The backlog if it is beyond the limit.
    pub fn exceeded_by(self, backlog: Option<Backlog>) -> Option<Backlog> {
        let limit = self.0?;
        backlog.filter(|backlog| backlog.entries > limit)
    }
}

impl FromStr for MaxBacklog {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self(None)),
            number => match number.parse() {
                Ok(entries) if entries > 0 => Ok(Self(Some(entries))),
                _ => Err("expected a number of entries, at least 1, or off"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::streams;

    #[test]
    fn a_limit_is_a_number_or_off() {
        let backlog =
            |entries| Some(Backlog { service: "s", stream: streams::INVENTORY_RESTOCK, entries });
        let limit: MaxBacklog = "3".parse().unwrap();
        assert_eq!(limit.exceeded_by(backlog(3)), None);
        assert_eq!(limit.exceeded_by(backlog(4)), backlog(4));
        assert_eq!(limit.exceeded_by(None), None);
        let off: MaxBacklog = "off".parse().unwrap();
        assert_eq!((off.is_off(), off.exceeded_by(backlog(u64::MAX))), (true, None));
        for wrong in ["", "0", "-1", "many", "OFF"] {
            assert!(wrong.parse::<MaxBacklog>().is_err(), "{wrong}");
        }
    }
}
