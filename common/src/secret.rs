//! Passwords and keys from a variable or a file, which are never printed.

use std::{fs, path::Path};

pub use secrecy::{ExposeSecret, SecretString as Secret};

use crate::config_error::ConfigError;

/// The secret of a variable, or of the file in its twin `…_FILE`; line breaks at the end of the
/// file are ignored.
///
/// # Errors
///
/// Both are set, the file cannot be read, or the secret is empty.
pub fn given(
    (variable, value): (&'static str, Option<&Secret>),
    (file_variable, file): (&'static str, Option<&Path>),
) -> Result<Option<Secret>, ConfigError> {
    let (variable, secret) = match (value, file) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            let reason = format!("{variable} is given as well; leave out one of the two");
            return Err(ConfigError::of(file_variable, reason));
        }
        (Some(value), None) => (variable, value.clone()),
        (None, Some(path)) => {
            let text = fs::read_to_string(path).map_err(|error| {
                ConfigError::of(file_variable, format!("cannot read {}: {error}", path.display()))
            })?;
            (file_variable, Secret::from(text.trim_end_matches(['\r', '\n'])))
        }
    };
    if secret.expose_secret().is_empty() {
        return Err(ConfigError::of(variable, "it is empty"));
    }
    Ok(Some(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_its_variable_or_its_file_and_is_not_shown() {
        let given = |value: Option<&str>, file: Option<&Path>| {
            let value = value.map(Secret::from);
            super::given(("PASSWORD", value.as_ref()), ("PASSWORD_FILE", file))
        };
        let path = std::env::temp_dir().join(format!("secret-{}", std::process::id()));
        fs::write(&path, "from file\r\n").unwrap();
        assert!(given(None, None).unwrap().is_none());
        let secret = given(Some("plain"), None).unwrap().unwrap();
        assert_eq!(secret.expose_secret(), "plain");
        assert!(!format!("{secret:?}").contains("plain"));
        assert_eq!(given(None, Some(&path)).unwrap().unwrap().expose_secret(), "from file");
        let both = given(Some("plain"), Some(&path)).unwrap_err();
        assert_eq!(both.variable, "PASSWORD_FILE");
        fs::write(&path, "\n").unwrap();
        assert_eq!(given(None, Some(&path)).unwrap_err().to_string(), "PASSWORD_FILE: it is empty");
        fs::remove_file(&path).unwrap();
        assert_eq!(given(None, Some(&path)).unwrap_err().variable, "PASSWORD_FILE");
        assert_eq!(given(Some(""), None).unwrap_err().variable, "PASSWORD");
    }
}
