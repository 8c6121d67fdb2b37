//! The contract of [`Conntrack`].

use crate::host::Conntrack;
use crate::host::conntrack::{Flow, FlowFilter};

/// Runs the contract of [`Conntrack`] on a namespace in which these flows are, no two of them with the same addresses, and
/// of each family two at least. They are deleted.
///
/// # Panics
/// Where the implementation breaks it, saying which rule.
pub async fn conntrack(conntrack: &dyn Conntrack, flows: &[Flow]) {
    let all = |is_ipv6| FlowFilter::of(is_ipv6, 17);
    for flow in flows {
        let is_ipv6 = flow.source.is_ipv6();
        let filters = [
            all(is_ipv6),
            FlowFilter {
                destination: Some(flow.destination.ip()),
                ..all(is_ipv6)
            },
            FlowFilter {
                destination_port: Some(flow.destination.port()),
                ..all(is_ipv6)
            },
            FlowFilter {
                reply_source: Some(flow.reply_source.ip()),
                ..all(is_ipv6)
            },
            FlowFilter {
                reply_source_port: Some(flow.reply_source.port()),
                ..all(is_ipv6)
            },
            FlowFilter {
                destination: Some(flow.destination.ip()),
                destination_port: Some(flow.destination.port()),
                reply_source: Some(flow.reply_source.ip()),
                reply_source_port: Some(flow.reply_source.port()),
                ..all(is_ipv6)
            },
        ];
        for filter in filters {
            let wanted = flows.iter().filter(|flow| filter.matches(flow));
            let mut wanted: Vec<Flow> = wanted.copied().collect();
            wanted.sort();
            assert_eq!(found(conntrack, &filter).await, wanted, "{filter}");
        }
        let nobody = FlowFilter {
            protocol: 6,
            ..all(is_ipv6)
        };
        assert_eq!(found(conntrack, &nobody).await, [], "another protocol");
    }
    for (number, flow) in flows.iter().enumerate() {
        let filter = all(flow.source.is_ipv6());
        let later = Flow {
            id: flow.id ^ 1,
            ..*flow
        };
        assert_eq!(
            conntrack.delete(&[later]).await,
            Ok(()),
            "a flow that is gone"
        );
        assert!(
            found(conntrack, &filter).await.contains(flow),
            "a flow with another number is another flow"
        );
        assert_eq!(
            conntrack.delete(&[*flow, *flow]).await,
            Ok(()),
            "twice is once"
        );
        let left = flows
            .iter()
            .skip(number + 1)
            .filter(|flow| filter.matches(flow));
        let mut left: Vec<Flow> = left.copied().collect();
        left.sort();
        assert_eq!(found(conntrack, &filter).await, left, "only {flow} goes");
    }
}

async fn found(conntrack: &dyn Conntrack, filter: &FlowFilter) -> Vec<Flow> {
    let mut found = conntrack.flows(filter).await.expect("flows");
    found.sort();
    found
}
