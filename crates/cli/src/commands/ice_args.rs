//! The flags that name STUN and TURN servers, and what is logged in to them with.

use std::path::{Path, PathBuf};

use waymesh_proto::ice::{Credential, IceServer, IceUrl};
use waymesh_proto::{Code, Fault};

/// The flags that name servers.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "STUN and TURN servers beside the registry's")]
pub(crate) struct ServerArgs {
    /// A STUN server; may be given several times
    #[arg(
        long = "stun-url",
        env = "WAYMESH_STUN_URL",
        value_name = "URL",
        value_delimiter = ','
    )]
    stun_urls: Vec<IceUrl>,
    /// A TURN server, as in turn:HOST:3478?transport=udp or turns:HOST; may be given several times
    #[arg(
        long = "turn-url",
        env = "WAYMESH_TURN_URL",
        value_name = "URL",
        value_delimiter = ','
    )]
    turn_urls: Vec<IceUrl>,
    #[command(flatten)]
    login: TurnLogin,
}

/// One name and password for all of --turn-url.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct TurnLogin {
    /// The username at --turn-url, the same for everybody
    #[arg(
        long,
        env = "WAYMESH_TURN_USERNAME",
        value_name = "NAME",
        requires = "turn_password_file"
    )]
    turn_username: Option<String>,
    /// The file whose first line is the password to --turn-username
    #[arg(
        long,
        env = "WAYMESH_TURN_PASSWORD_FILE",
        value_name = "FILE",
        requires = "turn_username"
    )]
    turn_password_file: Option<PathBuf>,
}

impl TurnLogin {
    /// The name and the file with the password: clap has neither without the other.
    pub(crate) fn pair(self) -> Option<(String, PathBuf)> {
        self.turn_username.zip(self.turn_password_file)
    }
}

impl ServerArgs {
    /// The servers, with what they are used with.
    ///
    /// # Errors
    ///
    /// `usage` where a flag names the other kind of server, `storage` where the password
    /// cannot be read.
    pub(crate) fn servers(&self) -> Result<Vec<IceServer>, Fault> {
        for (flag, urls, relays) in [
            ("--stun-url", &self.stun_urls, false),
            ("--turn-url", &self.turn_urls, true),
        ] {
            if let Some(url) = urls.iter().find(|url| url.scheme().relays() != relays) {
                return Err(Fault::new(
                    Code::Usage,
                    format!("{flag} names {url}, which is the other kind of server"),
                )
                .with_hint(
                    "stun: and stuns: go with --stun-url, turn: and turns: with --turn-url",
                ));
            }
        }
        let mut servers = Vec::new();
        if !self.stun_urls.is_empty() {
            servers.push(IceServer {
                urls: self.stun_urls.clone(),
                username: None,
                credential: None,
            });
        }
        if !self.turn_urls.is_empty() {
            let (username, file) = self.login.clone().pair().unzip();
            servers.push(IceServer {
                urls: self.turn_urls.clone(),
                username,
                credential: file.as_deref().map(password).transpose()?,
            });
        }
        Ok(servers)
    }
}

/// The password in a file: its first line.
fn password(file: &Path) -> Result<Credential, Fault> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let message = format!("{} cannot be read: {error}", file.display());
        Fault::new(Code::Storage, message)
            .with_hint("--turn-password-file names a file that this user may read")
    })?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        let message = format!("there is no password in {}", file.display());
        return Err(Fault::new(Code::Usage, message)
            .with_hint("put the password on the first line of the file"));
    }
    Ok(Credential::new(line.to_owned()))
}
