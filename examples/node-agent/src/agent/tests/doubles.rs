//! What the loop is given in place of a source, a kernel and a service manager.

use super::*;

#[derive(Debug)]
pub(super) struct Queue<T>(pub(super) UnboundedReceiver<T>);

impl<T: Send> Queue<T> {
    async fn pop(&mut self) -> T {
        match self.0.recv().await {
            Some(value) => value,
            None => std::future::pending().await,
        }
    }
}

#[async_trait]
impl PeerSource for Queue<PeerEvent> {
    async fn next(&mut self) -> PeerEvent {
        self.pop().await
    }
}

#[async_trait]
impl Monitor for Queue<KernelEvent> {
    async fn next(&mut self) -> KernelEvent {
        self.pop().await
    }
}

#[async_trait]
impl Orders for Queue<Order> {
    async fn next(&mut self) -> Order {
        self.pop().await
    }
}

/// What the programmer was asked to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Work {
    Full { peers: usize, in_sync: bool },
    Update(Vec<String>),
}

/// What it is to answer, in order; then that all went well.
pub(super) type Answers = Arc<Mutex<Vec<Outcome>>>;

#[derive(Debug)]
pub(super) struct Scripted {
    pub(super) work: UnboundedSender<(Instant, Work)>,
    pub(super) answers: Answers,
    /// How long each piece of work takes.
    pub(super) takes: Duration,
}

impl Scripted {
    async fn answer(&self, work: Work) -> Outcome {
        let full = matches!(work, Work::Full { .. });
        self.work.send((Instant::now(), work)).unwrap();
        sleep(self.takes).await;
        let mut answers = self.answers.lock().unwrap();
        let mut outcome = if answers.is_empty() {
            Outcome::default()
        } else {
            answers.remove(0)
        };
        outcome.full |= full;
        outcome
    }
}

#[async_trait]
impl Programmer for Scripted {
    async fn full(&mut self, view: &View) -> Outcome {
        let work = Work::Full {
            peers: view.peers().count(),
            in_sync: view.in_sync(),
        };
        self.answer(work).await
    }

    async fn update(&mut self, _: &View, changes: &[NodeChange]) -> Outcome {
        let names = changes.iter().map(|change| change.uid.to_string());
        self.answer(Work::Update(names.collect())).await
    }

    async fn concerns(&mut self, event: &KernelEvent) -> bool {
        !matches!(event, KernelEvent::Address { .. })
    }

    async fn is_ruled(&mut self) -> bool {
        false
    }
}

#[derive(Debug)]
pub(super) struct Fixed(pub(super) Arc<Mutex<Identity>>);

#[async_trait]
impl Locator for Fixed {
    async fn identity(&mut self, _: &View) -> cni_core::Result<Identity> {
        Ok(self.0.lock().unwrap().clone())
    }
}

/// How often it was asked.
#[derive(Debug, Clone, Default)]
pub(super) struct Unchanged(pub(super) Arc<AtomicUsize>);

impl Reload for Unchanged {
    fn reload(&mut self) -> cni_core::Result<Setup> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(cni_core::Error::new(
            cni_core::ErrorKind::InvalidConfig,
            "no such network",
        ))
    }
}
