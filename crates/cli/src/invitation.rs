//! What `--invite` names: an invite or a pairing code, where other users do not see it.

use std::fmt;
use std::fs;
use std::io::{self, BufRead, BufReader};

use waymesh_node::Invitation;
use waymesh_proto::limits::INVITE_MAX_BYTES;
use waymesh_proto::{Code, Fault};

/// Longest first line that is read, bytes: an invite and the end of its line.
const LINE_MAX_BYTES: usize = INVITE_MAX_BYTES + 2;

/// The value of `--invite`: a secret, or where one is. `Debug` does not show it.
#[derive(Clone)]
pub(crate) struct InviteSource(String);

impl From<&str> for InviteSource {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for InviteSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteSource(..)")
    }
}

impl InviteSource {
    /// Reads the invite or code: the text itself, the first line of `@FILE`, or, for
    /// `-`, of standard input.
    ///
    /// # Errors
    ///
    /// `storage` for a file that cannot be read, `bad_invite` for what is no invite.
    pub(crate) fn read(&self) -> Result<Invitation, Fault> {
        let text = match (self.0.as_str(), self.0.strip_prefix('@')) {
            ("-", _) => first_line(io::stdin().lock(), "standard input")?,
            (_, Some(path)) => {
                let file = fs::File::open(path).map_err(|error| unreadable(path, &error))?;
                first_line(BufReader::new(file), path)?
            }
            (text, None) => text.to_owned(),
        };
        text.parse::<Invitation>().map_err(|error| error.fault())
    }
}

/// No more than the line: what follows on standard input is for others.
fn first_line(from: impl BufRead, name: &str) -> Result<String, Fault> {
    let mut line = Vec::new();
    from.take(LINE_MAX_BYTES as u64)
        .read_until(b'\n', &mut line)
        .map_err(|error| unreadable(name, &error))?;
    String::from_utf8(line)
        .map_err(|_| Fault::new(Code::NotUtf8, format!("{name} is not UTF-8 text")))
}

fn unreadable(name: &str, error: &io::Error) -> Fault {
    let message = format!("the invite in {name} cannot be read: {error}");
    Fault::new(Code::Storage, message)
        .with_hint("waymesh invite > FILE makes one, --invite @FILE reads it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(source: &str) -> Code {
        InviteSource::from(source)
            .read()
            .expect_err("an error")
            .code
    }

    #[test]
    fn a_file_is_read_up_to_the_end_of_its_first_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("code");
        fs::write(&path, "123456\nand more\n").expect("a file");
        let source = InviteSource::from(format!("@{}", path.display()).as_str());
        assert!(source.read().is_ok_and(|read| read.code().is_some()));
    }

    #[test]
    fn what_is_no_invite_or_cannot_be_read_is_a_coded_error() {
        assert_eq!(code("12345"), Code::BadInvite);
        assert_eq!(code(""), Code::BadInvite);
        assert_eq!(code("@/no/such/file"), Code::Storage);
        assert_eq!(code("@/dev/zero"), Code::BadInvite);
    }

    #[test]
    fn an_invite_is_not_shown() {
        assert!(!format!("{:?}", InviteSource::from("123456")).contains('1'));
    }
}
