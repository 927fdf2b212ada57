//! A cluster behind TLS with a certificate authority of its own.

#![expect(clippy::unwrap_used, reason = "test code fails by panicking, in its helpers too")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use futures::StreamExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use yard_driver_ray::{RayConfig, RayDriver, Token};
use yard_ports::{Driver, DriverError, Observation};

/// Starts a server that answers everything with an empty list; returns its port and its authority as PEM.
fn start() -> (u16, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream =
                StreamOwned::new(ServerConnection::new(Arc::clone(&config)).unwrap(), stream.unwrap());
            // Fails if the client does not trust us: then there is nobody to answer.
            if stream.read(&mut [0; 4_096]).is_ok() {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n[]";
                let _ = stream.write_all(answer).and_then(|()| stream.flush());
            }
        }
    });
    (port, authority.pem())
}

#[tokio::test]
async fn an_authority_of_its_own_is_trusted_only_if_it_is_configured() {
    let (port, authority) = start();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, authority).unwrap();
    let config =
        RayConfig { token: Some(Token::new("t")), ..RayConfig::new(format!("https://localhost:{port}")) };

    let trusting = RayDriver::new(RayConfig { ca_file: Some(ca_file), ..config.clone() }).unwrap();
    assert_eq!(trusting.observe().next().await.unwrap().unwrap(), Observation::Full(vec![]));

    let item = RayDriver::new(config).unwrap().observe().next().await.unwrap();
    assert!(matches!(&item, Err(DriverError::Unreachable(said)) if said.contains("ertificate")), "{item:?}");
}
