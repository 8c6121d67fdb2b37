//! The contract of every backend, on the fake kernel.

use cni_core::nat;
use cni_core::spec::NetworkConfig;
use cni_core::testing::conformance::{self, FakeFixture};
use ptp::Ptp;

#[tokio::test]
async fn ptp_keeps_the_contract_of_a_backend() {
    let configs = ["", r#","mtu":1400,"ipMasq":true"#].map(|more| {
        let text = format!(
            r#"{{"cniVersion":"1.1.0","name":"n","type":"ptp","ipam":{{"type":"fake"}}{more}}}"#
        );
        NetworkConfig::parse(text.as_bytes()).unwrap()
    });
    let fixture = FakeFixture::new(Ptp, configs).with_tables([nat::table()]);
    conformance::backend(&fixture).await;
}
