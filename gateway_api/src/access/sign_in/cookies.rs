//! Writes and finds cookies.

use http::{HeaderMap, HeaderValue, header};

use super::pkce;

/// The maximum length of a value: browsers drop cookies of more than 4,096 bytes, including the name.
const VALUE_LIMIT: usize = 3_900;
/// The maximum number of cookies of a session.
const SESSION_COOKIES: [&str; 2] = ["orders_session", "orders_session_2"];
/// The prefix of the names of attempts' cookies.
const ATTEMPT_COOKIE_PREFIX: &str = "orders_sign_in_";
/// The number of characters of an attempt's state in the name of its cookie.
const STATE_PREFIX_LENGTH: usize = 10;
/// The number of attempts that a browser keeps besides a new one. Each may take 2 KB of a head of 32 KiB.
const KEPT_ATTEMPTS: usize = 7;
/// The number of random characters of a session's first cookie with which its second one begins, so that
/// the two are matched among other cookies with the same names.
const MARK_LENGTH: usize = 16;
/// The number of second cookies that are tried with each first one. All but one of them are forged.
const PAIR_LIMIT: usize = 8;

/// The form of cookies. All are for the whole host, hidden from scripts, and `SameSite=Lax`: with `Strict`
/// the browser would not send them after the provider's redirect, so a session would never begin. `Lax`
/// sends them with GET requests from other sites, which have no effects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Jar {
    /// Whether cookies are limited to TLS, and by their names to this host.
    pub(super) secure: bool,
}

impl Jar {
    /// The cookies of the session's sealed text for this number of seconds; `None` if the text is too long.
    pub(super) fn keep_session(self, text: &str, seconds: u64) -> Option<Vec<HeaderValue>> {
        // The text is ASCII, so every position is a boundary.
        let (first, second) = text.split_at(text.len().min(VALUE_LIMIT));
        if second.len() > VALUE_LIMIT - MARK_LENGTH {
            return None;
        }
        let second = if second.is_empty() {
            self.drop(SESSION_COOKIES[1])
        } else {
            self.keep(SESSION_COOKIES[1], &format!("{}{second}", &first[..MARK_LENGTH]), seconds)
        };
        Some(vec![self.keep(SESSION_COOKIES[0], first, seconds), second])
    }

    /// Ends the session.
    pub(super) fn drop_session(self) -> Vec<HeaderValue> {
        SESSION_COOKIES.iter().map(|name| self.drop(name)).collect()
    }

    /// All candidates for the sealed session: other servers on this host may have set cookies with the same
    /// names, and a request does not name the origin of a cookie. The size limit of a head bounds their
    /// number.
    pub(super) fn sessions(self, headers: &HeaderMap) -> impl Iterator<Item = String> {
        let [first, second] = SESSION_COOKIES.map(|name| self.find(headers, name));
        let (long, short): (Vec<_>, Vec<_>) =
            first.into_iter().partition(|text| text.len() == VALUE_LIMIT);
        let pairs = long.clone().into_iter().flat_map(move |one| {
            let rest =
                |other: &String| other.strip_prefix(one.get(..MARK_LENGTH)?).map(str::to_owned);
            let rests: Vec<String> = second.iter().filter_map(rest).take(PAIR_LIMIT).collect();
            rests.into_iter().map(move |rest| format!("{one}{rest}"))
        });
        short.into_iter().chain(long).chain(pairs)
    }

    /// The cookie of the sealed attempt with this state for this number of seconds. Each attempt has a
    /// cookie of its own, so that two tabs may sign in concurrently.
    pub(super) fn keep_attempt(self, state: &str, text: &str, seconds: u64) -> HeaderValue {
        self.keep(&attempt(state), text, seconds)
    }

    /// Ends the attempt with this state.
    pub(super) fn drop_attempt(self, state: &str) -> HeaderValue {
        self.drop(&attempt(state))
    }

    /// Ends the browser's attempts except the newest few, before another one begins. Browsers send older
    /// cookies first.
    pub(super) fn drop_old_attempts(self, headers: &HeaderMap) -> Vec<HeaderValue> {
        let begin = self.name(ATTEMPT_COOKIE_PREFIX);
        let is_one = |name: &&str| {
            let named = name.strip_prefix(&begin);
            named
                .is_some_and(|rest| rest.len() == STATE_PREFIX_LENGTH && rest.bytes().all(is_plain))
        };
        let names = pairs(headers).filter_map(|(name, _)| std::str::from_utf8(name).ok());
        let attempts: Vec<&str> = names.filter(is_one).collect();
        let old = &attempts[..attempts.len().saturating_sub(KEPT_ATTEMPTS)];
        old.iter()
            .map(|name| self.drop(&name[begin.len() - ATTEMPT_COOKIE_PREFIX.len()..]))
            .collect()
    }

    /// The candidates for the sealed text of the attempt with this state.
    pub(super) fn attempts(self, headers: &HeaderMap, state: &str) -> Vec<String> {
        self.find(headers, &attempt(state))
    }

    /// `__Host-` makes browsers refuse such a cookie from other hosts of the domain and without TLS.
    fn name(self, name: &str) -> String {
        format!("{}{name}", if self.secure { "__Host-" } else { "" })
    }

    fn keep(self, name: &str, value: &str, seconds: u64) -> HeaderValue {
        let secure = if self.secure { "; Secure" } else { "" };
        let name = self.name(name);
        let text =
            format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        HeaderValue::from_str(&text).expect("names and values are plain")
    }

    fn drop(self, name: &str) -> HeaderValue {
        self.keep(name, "", 0)
    }

    /// The values of the cookies with this name.
    fn find(self, headers: &HeaderMap, name: &str) -> Vec<String> {
        let name = self.name(name);
        let named = pairs(headers).filter(|(found, _)| *found == name.as_bytes());
        let texts = named.filter_map(|(_, value)| std::str::from_utf8(value).ok());
        texts.filter(|it| !it.is_empty()).map(str::to_owned).collect()
    }
}

/// Whether a text has the form of a state.
pub(super) fn is_state(text: &str) -> bool {
    text.len() == pkce::random().len() && text.bytes().all(is_plain)
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

/// The names and values of a request's cookies, in bytes, because other servers' cookies may be any bytes.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let all = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes);
    all.flat_map(|it| it.split(|byte| *byte == b';')).filter_map(|pair| {
        let middle = pair.iter().position(|byte| *byte == b'=')?;
        Some((pair[..middle].trim_ascii(), pair[middle + 1..].trim_ascii()))
    })
}

fn attempt(state: &str) -> String {
    format!("{ATTEMPT_COOKIE_PREFIX}{}", &state[..STATE_PREFIX_LENGTH])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(set: &[HeaderValue]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, HeaderValue::from_static("other=1; orders_session_x=2"));
        for cookie in set {
            let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
            headers.append(header::COOKIE, cookie.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_session_takes_one_cookie_or_two_and_no_third() {
        let jar = Jar { secure: true };
        for length in [1, VALUE_LIMIT, VALUE_LIMIT + 1, 2 * VALUE_LIMIT - MARK_LENGTH] {
            let text = "x".repeat(length);
            let set = jar.keep_session(&text, 60).unwrap();
            for cookie in &set {
                assert!(cookie.len() <= 4_096, "{length}: {}", cookie.len());
            }
            assert!(jar.sessions(&sent(&set)).any(|found| found == text), "{length}");
        }
        assert_eq!(jar.keep_session(&"x".repeat(2 * VALUE_LIMIT - MARK_LENGTH + 1), 60), None);
        assert_eq!(jar.sessions(&sent(&jar.drop_session())).next(), None);
        assert_eq!(jar.sessions(&HeaderMap::new()).next(), None);
    }

    #[test]
    fn others_cookies_hide_none_of_ours() {
        let jar = Jar { secure: false };
        let sessions = |cookies: &str| {
            let mut headers = HeaderMap::new();
            headers.append(header::COOKIE, HeaderValue::from_bytes(cookies.as_bytes()).unwrap());
            jar.sessions(&headers).collect::<Vec<_>>()
        };
        assert_eq!(sessions("theme=ü; orders_session=a"), ["a"]);
        assert_eq!(sessions("orders_session=ü; orders_session=a;"), ["ü", "a"]);
        assert_eq!(sessions(" orders_session = a ;=;;x"), ["a"]);
        // Any number of forged cookies may come first, single ones and pairs.
        let shadows = "orders_session=x; orders_session_2=y; ".repeat(500);
        assert!(sessions(&format!("{shadows}orders_session=a")).contains(&"a".to_owned()));
        let long = |first: u8| {
            format!(
                "{}{}",
                char::from(first).to_string().repeat(MARK_LENGTH),
                "x".repeat(VALUE_LIMIT - MARK_LENGTH)
            )
        };
        let foreign: String = (b'a'..b'g')
            .map(|first| format!("orders_session={}; orders_session_2=z; ", long(first)))
            .collect();
        let set = jar.keep_session(&format!("{}rest", long(b'0')), 60).unwrap();
        let own: Vec<&str> =
            set.iter().map(|it| it.to_str().unwrap().split(';').next().unwrap()).collect();
        let found = sessions(&format!("{foreign}{}", own.join("; ")));
        assert!(found.contains(&format!("{}rest", long(b'0'))));
        // The same with many pairs for each of a few first cookies.
        let foreign: String = (b'a'..b'd')
            .map(|first| {
                let mark = char::from(first).to_string().repeat(MARK_LENGTH);
                let second = format!("orders_session_2={mark}z; ");
                format!("orders_session={}; {}", long(first), second.repeat(PAIR_LIMIT))
            })
            .collect();
        let found = sessions(&format!("{foreign}{}", own.join("; ")));
        assert!(found.contains(&format!("{}rest", long(b'0'))));
        // The search is cheap for all forged cookies.
        let made_up = format!("orders_session={}; ", long(b'a')).repeat(4)
            + &format!("orders_session_2={}; ", "a".repeat(MARK_LENGTH)).repeat(400);
        assert_eq!(sessions(&made_up).len(), 4 + 4 * PAIR_LIMIT);
    }

    #[test]
    fn cookies_are_hidden_from_scripts_and_kept_to_tls_where_there_is_some() {
        let all = |jar: Jar| jar.keep_session("text", 60).unwrap().swap_remove(0);
        assert_eq!(
            all(Jar { secure: true }),
            "__Host-orders_session=text; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        assert_eq!(
            all(Jar { secure: false }),
            "orders_session=text; Path=/; Max-Age=60; HttpOnly; SameSite=Lax"
        );
    }

    #[test]
    fn each_attempt_has_a_cookie_of_its_own() {
        let jar = Jar { secure: false };
        let (one, two) = (pkce::random(), pkce::random());
        assert!(is_state(&one) && !is_state(&one[1..]) && !is_state(&format!("{};", &one[1..])));
        let set = [jar.keep_attempt(&one, "1", 60), jar.keep_attempt(&two, "2", 60)];
        assert_eq!(jar.attempts(&sent(&set), &one), ["1"]);
        assert_eq!(jar.attempts(&sent(&set), &two), ["2"]);
        assert!(jar.attempts(&sent(&[jar.drop_attempt(&one)]), &one).is_empty());
    }

    #[test]
    fn old_attempts_make_room_for_new_ones_and_nothing_else_does() {
        for jar in [Jar { secure: false }, Jar { secure: true }] {
            let states: Vec<String> = (0..KEPT_ATTEMPTS + 2).map(|_| pkce::random()).collect();
            let keep = |state: &String| jar.keep_attempt(state, "1", 60);
            let mut headers = sent(&states.iter().map(keep).collect::<Vec<_>>());
            headers.append(header::COOKIE, HeaderValue::from_static("orders_sign_in_other=1"));
            headers
                .append(header::COOKIE, HeaderValue::from_static("orders_sign_in_0123\tabcde=1"));
            let dropped: Vec<_> = states[..2].iter().map(|state| jar.drop_attempt(state)).collect();
            assert_eq!(jar.drop_old_attempts(&headers), dropped);
            assert_eq!(jar.drop_old_attempts(&sent(&[])), Vec::<HeaderValue>::new());
        }
    }
}
