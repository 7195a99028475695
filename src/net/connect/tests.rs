//! Tests of connections to providers.

use std::sync::mpsc::sync_channel;

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    net::TcpListener,
};

use super::*;
use crate::base::secret::Secret;

#[tokio::test]
async fn a_tunnel_leads_to_the_port_of_the_scheme() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    let config = config::Upstream {
        proxy: Egress::Url(Secret::new(proxy)),
        ..config::Upstream::default()
    };
    let connector = Connector::configured("upstream", &config, &[]).unwrap();
    let connector = connector.over_http2();
    for (url, target) in [
        ("http://collector/", "collector:80"),
        ("http://[::1]/", "[::1]:80"),
        ("http://collector:4317/", "collector:4317"),
        ("https://collector/", "collector:443"),
    ] {
        let origin = Origin::of(&url.parse().unwrap()).unwrap();
        let asked = async {
            let (socket, _) = listener.accept().await.unwrap();
            let mut line = String::new();
            BufReader::new(socket).read_line(&mut line).await.unwrap();
            line
        };
        let (_refused, asked) = tokio::join!(connector.connect(&origin, None), asked);
        assert_eq!(asked, format!("CONNECT {target} HTTP/1.1\r\n"), "{url}");
    }
}

#[test]
fn an_origin_keeps_the_port_that_was_given_and_drops_user_names() {
    let origin = Origin::of(&Uri::from_static("http://me:secret@vllm:8000/v1/x?q")).unwrap();
    assert_eq!(origin.host_header(), "vllm:8000");
    assert_eq!(origin.host(), "vllm");
    assert!(Origin::of(&Uri::from_static("/v1")).is_none());
    let origin = Origin::of(&Uri::from_static("https://api.openai.com/v1")).unwrap();
    assert_eq!(origin.host_header(), "api.openai.com");
}

#[tokio::test]
async fn providers_are_looked_up_while_a_resolver_leaves_others_names_unanswered() {
    let stuck = Lookups::by(|_host, _port| {
        let (_nobody, answers) = sync_channel::<()>(1);
        let _late = answers.recv_timeout(Duration::from_secs(2));
        Ok(Vec::new())
    });
    let config = config::Upstream {
        proxy: Egress::None,
        connect_timeout: Duration::from_secs(1),
        ..config::Upstream::default()
    };
    let connector = Connector::configured("upstream", &config, &[]).unwrap();
    let connector = Connector {
        lookups: stuck,
        ..connector
    };
    let (reach, hops) = (Reach::default(), connector.me().alone());
    // More than a runtime has threads for.
    for _ in 0..600 {
        let asked = connector.socket(("slow.example", 443), &reach, &hops);
        let left = tokio::time::timeout(Duration::ZERO, asked).await;
        assert!(left.is_err());
    }
    let counts = connector.lookups();
    assert_eq!((counts.now, counts.turned_away), (counts.most, 0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let provider = Origin::of(&format!("http://localhost:{port}/").parse().unwrap()).unwrap();
    connector.connect(&provider, None).await.unwrap();
    let refused = connector.socket(("slow.example", 443), &reach, &hops).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, ConnectError::Crowded(_)), "{error}");
}

#[tokio::test]
async fn a_provider_s_address_must_not_lead_to_where_we_listen() {
    let listeners = [
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    ];
    let [own, theirs] = listeners.each_ref().map(|at| at.local_addr().unwrap());
    let config = config::Upstream {
        proxy: Egress::None,
        ..config::Upstream::default()
    };
    let connector = Connector::configured("upstream", &config, &[]).unwrap();
    let connector = connector.listening(vec![own]);
    let to = |at: SocketAddr| {
        let url = format!("http://localhost:{}/", at.port());
        Origin::of(&url.parse().unwrap()).unwrap()
    };
    let refused = connector.connect(&to(own), None).await;
    let error = refused.unwrap_err().to_string();
    assert!(error.contains("where Tollgate itself listens"), "{error}");
    connector.connect(&to(theirs), None).await.unwrap();
}
