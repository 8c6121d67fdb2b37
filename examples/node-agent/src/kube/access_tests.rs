use super::*;

const FILE: &str = "
apiVersion: v1
kind: Config
current-context: here
clusters:
- name: other
  cluster: {server: 'https://192.0.2.9'}
- name: c
  cluster:
    server: https://192.0.2.7:6443/
    certificate-authority: ca.pem
    tls-server-name: kubernetes
contexts:
- name: here
  context: {cluster: c, user: u}
users:
- name: u
  user:
    token: top-secret
";

fn read(text: &str) -> Result<Access, String> {
    understood(text, Path::new("/etc/cni"), None)
}

#[test]
fn the_current_context_says_server_and_user() {
    let access = read(FILE).unwrap();
    assert_eq!(access.server.to_string(), "https://192.0.2.7:6443");
    assert_eq!(access.name.as_deref(), Some("kubernetes"));
    assert_eq!(access.roots, Some(Pem::File("/etc/cni/ca.pem".into())));
    assert_eq!(access.token, Some(Token::Text("top-secret".into())));
    assert!(!format!("{access:?}").contains("top-secret"));
    let elsewhere = "https://[2001:db8::1]:7".parse().unwrap();
    let access = understood(FILE, Path::new("/"), Some(&elsewhere)).unwrap();
    assert_eq!(access.server, elsewhere);
}

#[test]
fn a_file_of_the_token_and_data_of_certificates_come_first() {
    let text = FILE.replace(
        "    token: top-secret",
        "    token: top-secret
    tokenFile: token
    client-certificate: /x
    client-certificate-data: Yw==
    client-key-data: aw==",
    );
    let access = read(&text).unwrap();
    assert_eq!(access.token, Some(Token::File("/etc/cni/token".into())));
    let (certificate, key) = access.identity.clone().unwrap();
    assert_eq!(certificate.to_string(), "client-certificate-data");
    assert_eq!(key.to_string(), "client-key-data");
    assert!(!format!("{access:?}").contains("107"), "{access:?}");
}

#[test]
fn what_is_not_done_is_refused_with_what_to_do_instead() {
    for (from, to, words) in [
        ("token: top-secret", "exec: {command: aws}", "tokenFile"),
        (
            "token: top-secret",
            "auth-provider: {name: gcp}",
            "tokenFile",
        ),
        ("token: top-secret", "username: admin", "1.19"),
        ("token: top-secret", "as: admin", "rights"),
        ("token: top-secret", "token: [top-secret]", "the user has"),
        ("token: top-secret", "client-key-data: '!'", "base64"),
        ("token: top-secret", "client-key: k", "client-certificate"),
        ("token: top-secret", "client-certificate: k", "client-key"),
        (
            "tls-server-name: kubernetes",
            "insecure-skip-tls-verify: true",
            "certificate-authority",
        ),
        (
            "tls-server-name: kubernetes",
            "proxy-url: http://p",
            "proxy-url",
        ),
        ("current-context: here", "", "current-context"),
        (
            "current-context: here",
            "current-context: gone",
            "no context \"gone\"",
        ),
        ("user: u}", "user: nobody}", "no user \"nobody\""),
        ("cluster: c,", "cluster: d,", "no cluster \"d\""),
        (
            "server: https://192.0.2.7:6443/",
            "server: 192.0.2.7",
            "https://HOST",
        ),
    ] {
        assert!(FILE.contains(from), "{from}");
        let error = read(&FILE.replace(from, to)).unwrap_err();
        assert!(error.contains(words), "{to}: {error}");
        assert!(!error.contains("top-secret"), "{error}");
    }
}

#[test]
fn a_secret_goes_over_tls_alone_and_to_a_server_that_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    let origin = Origin {
        place: Place::Kubeconfig(path.clone()),
        server: None,
    };
    assert!(origin.read().unwrap_err().contains("config"));
    for (from, to, words) in [
        ("https://192.0.2.7:6443/", "http://192.0.2.7", "not https"),
        ("certificate-authority: ca.pem", "", "certificate-authority"),
    ] {
        fs::write(&path, FILE.replace(from, to)).unwrap();
        let error = origin.read().unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    fs::write(&path, FILE).unwrap();
    assert!(origin.read().is_ok());
}

#[test]
fn a_pods_account_is_where_a_pod_finds_it() {
    let place = Place::account(Some("fd00::1".to_owned()), Some("6443".to_owned()));
    let origin = Origin {
        place,
        server: None,
    };
    let access = origin.read().unwrap();
    assert_eq!(access.server.to_string(), "https://[fd00::1]:6443");
    assert_eq!(
        access.token,
        Some(Token::File(format!("{ACCOUNT}/token").into()))
    );
    let nowhere = Origin {
        place: Place::account(None, None),
        server: None,
    };
    assert!(nowhere.read().unwrap_err().contains("kubeconfig"));
}

#[test]
fn addresses_of_servers_are_read() {
    for (text, wanted) in [
        ("https://h", "https://h:443"),
        ("http://127.0.0.1:8001/", "http://127.0.0.1:8001"),
        (
            "https://rancher/k8s/clusters/c-1",
            "https://rancher:443/k8s/clusters/c-1",
        ),
        ("https://[2001:db8::7]", "https://[2001:db8::7]:443"),
    ] {
        assert_eq!(text.parse::<ServerUrl>().unwrap().to_string(), wanted);
    }
    for wrong in [
        "h:1",
        "https://",
        "https://a b",
        "https://h:x",
        "https://h/a?b",
        "https://u@h",
        "https://[::1",
    ] {
        assert!(wrong.parse::<ServerUrl>().is_err(), "{wrong}");
    }
}
