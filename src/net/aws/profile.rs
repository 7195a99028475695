//! AWS's own files, `~/.aws/credentials` and `~/.aws/config`: sections of `name = value`.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use super::Keys;
use crate::base::secret::Secret;

/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// The keys of a profile: those in `credentials`, else those in `config`.
///
/// # Errors
/// Neither has them; in words, with the names of the files.
pub(super) fn read(profile: &str, credentials: &Path, config: &Path) -> Result<Keys, String> {
    let mut problems = Vec::new();
    let section = if profile == "default" {
        profile.to_owned()
    } else {
        format!("profile {profile}")
    };
    for (file, section) in [(credentials, profile), (config, &section)] {
        let name = file.display();
        match text(file).map(|text| keys(&text, section)) {
            Ok(Some(keys)) => return Ok(keys),
            Ok(None) => problems.push(format!(
                "{name} has no aws_access_key_id and aws_secret_access_key under [{section}]"
            )),
            Err(error) => problems.push(format!("{name}: {error}")),
        }
    }
    Err(problems.join("; "))
}

/// Reads a file, up to the bound.
pub(super) fn text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// The keys in a section; the last word of each name holds.
fn keys(text: &str, section: &str) -> Option<Keys> {
    let (mut inside, mut id, mut secret, mut token) = (false, None, None, None);
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[') {
            let name = name.split(']').next().unwrap_or_default();
            inside = name
                .split_ascii_whitespace()
                .eq(section.split_ascii_whitespace());
        } else if inside
            && !line.starts_with(['#', ';'])
            && let Some((name, value)) = line.split_once('=')
        {
            let value = Some(value.trim()).filter(|value| !value.is_empty());
            match name.trim().to_ascii_lowercase().as_str() {
                "aws_access_key_id" => id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {},
            }
        }
    }
    Some(Keys {
        id: id?.to_owned(),
        secret: Secret::new(secret?),
        token: token.map(Secret::new),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_profile_is_found_in_either_file() {
        let directory = tempfile::tempdir().unwrap();
        let (credentials, config) = (directory.path().join("c"), directory.path().join("d"));
        let text = "# keys\n[default]\naws_access_key_id=A\naws_secret_access_key = s=1\n\
                    [work]\n; none\nregion=x\n";
        std::fs::write(&credentials, text).unwrap();
        let text = "[profile  work]\nAWS_ACCESS_KEY_ID = W\naws_secret_access_key = t\naws_session_token = u\n";
        std::fs::write(&config, text).unwrap();
        let keys = |profile| read(profile, &credentials, &config);
        let found = keys("default").unwrap();
        assert_eq!(
            (found.id.as_str(), found.secret.expose(), found.token),
            ("A", "s=1", None)
        );
        let found = keys("work").unwrap();
        assert_eq!(found.id, "W");
        assert_eq!(found.token.unwrap().expose(), "u");
        let problem = keys("none").unwrap_err();
        assert!(
            problem.contains("[none]") && problem.contains("[profile none]"),
            "{problem}"
        );
        let problem = read("default", &directory.path().join("absent"), &config).unwrap_err();
        assert!(problem.contains("absent"), "{problem}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(text in "[a-z\\[\\]=#\n ]{0,80}") {
            let _keys = keys(&text, "a");
        }
    }
}
