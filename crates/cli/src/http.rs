//! A registry's HTTP API, as far as the command line asks it.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, Uri, header};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;
use waymesh_proto::api::AgentRecord;
use waymesh_proto::ids::{Name, SkillName};
use waymesh_proto::{Code, Fault};

/// Largest page that is read, bytes. Chosen: several times what a registry sends.
const PAGE_MAX_BYTES: usize = 8 * 1024 * 1024;

/// What the registry answers: one page of agents, or an error.
#[derive(Deserialize)]
struct Answer {
    agents: Option<Vec<AgentRecord>>,
    #[serde(default)]
    next: Option<Name>,
    error: Option<Fault>,
}

/// Asks the registry at `url` for agents, all or those with a name or skill.
pub(crate) async fn agents(
    url: &str,
    name: Option<&Name>,
    skill: Option<&SkillName>,
    limit: Duration,
) -> Result<Vec<AgentRecord>, Fault> {
    timeout(limit, all_pages(url, name, skill))
        .await
        .map_err(|_| unreachable(url, format!("no answer within {limit:?}")))?
}

async fn all_pages(
    url: &str,
    name: Option<&Name>,
    skill: Option<&SkillName>,
) -> Result<Vec<AgentRecord>, Fault> {
    let base = base(url)?;
    let mut all = Vec::new();
    let mut after: Option<Name> = None;
    loop {
        let mut query = Vec::new();
        query.extend(name.map(|name| format!("name={name}")));
        query.extend(skill.map(|skill| format!("skill={skill}")));
        query.extend(after.as_ref().map(|after| format!("after={after}")));
        let path = format!("/v1/agents?{}", query.join("&"));
        let (agents, next) = page(url, &base, &path).await?;
        all.extend(agents);
        match next {
            None => return Ok(all),
            // A registry that goes round in circles would never end.
            Some(next) if Some(&next) <= after.as_ref() => return Err(no_registry(url)),
            Some(next) => after = Some(next),
        }
    }
}

async fn page(
    url: &str,
    base: &str,
    path: &str,
) -> Result<(Vec<AgentRecord>, Option<Name>), Fault> {
    let body = fetch(base, path)
        .await
        .map_err(|why| unreachable(url, why))?;
    let answer: Answer = serde_json::from_slice(&body).map_err(|_| no_registry(url))?;
    match answer {
        Answer {
            error: Some(fault), ..
        } => Err(fault),
        Answer {
            agents: Some(agents),
            next,
            ..
        } => Ok((agents, next)),
        _ => Err(no_registry(url)),
    }
}

/// Host and port of a registry's URL.
fn base(url: &str) -> Result<String, Fault> {
    let wrong = |why: &str| {
        Fault::new(Code::Usage, format!("{url} is no registry's URL: {why}"))
            .with_hint("it looks like http://127.0.0.1:7700")
    };
    let uri: Uri = url.parse().map_err(|error| wrong(&format!("{error}")))?;
    if uri.scheme_str() == Some("https") {
        return Err(Fault::new(
            Code::NotSupportedYet,
            "registries over HTTPS are not supported yet",
        ));
    }
    match (uri.scheme_str(), uri.host()) {
        (Some("http"), Some(host)) => Ok(format!("{host}:{}", uri.port_u16().unwrap_or(80))),
        _ => Err(wrong("it does not begin with http://HOST")),
    }
}

async fn fetch(base: &str, path: &str) -> Result<Bytes, String> {
    let stream = TcpStream::connect(base).await.map_err(text)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(text)?;
    let request = Request::get(path)
        .header(header::HOST, base)
        .body(Empty::<Bytes>::new())
        .map_err(text)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let body = Limited::new(response.into_body(), PAGE_MAX_BYTES);
        let body = body.collect().await.map_err(text)?;
        Ok(body.to_bytes())
    };
    tokio::pin!(connection, exchange);
    tokio::select! {
        biased;
        done = &mut exchange => done,
        ended = &mut connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(text(error)),
        },
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

fn no_registry(url: &str) -> Fault {
    unreachable(url, "it is no waymesh registry")
}

fn unreachable(url: &str, why: impl std::fmt::Display) -> Fault {
    Fault::new(
        Code::RegistryUnreachable,
        format!("the registry at {url} cannot be asked: {why}"),
    )
    .with_hint("check the address, and that `waymesh registry` runs there")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_host_and_port() {
        assert_eq!(base("http://127.0.0.1:7700"), Ok("127.0.0.1:7700".into()));
        assert_eq!(base("http://[::1]:7700/"), Ok("[::1]:7700".into()));
        assert_eq!(base("http://registry"), Ok("registry:80".into()));
    }

    #[test]
    fn what_is_no_url_is_wrong_usage() {
        let code = |url| base(url).expect_err("an error").code;
        assert_eq!(code("127.0.0.1:7700"), Code::Usage);
        assert_eq!(code("ftp://host"), Code::Usage);
        assert_eq!(code("https://host"), Code::NotSupportedYet);
    }
}
