//! Write a backend.
//!
//! A backend connects a container to a network. It says what must exist; making it, taking it back, finding it again,
//! comparing and collecting are the crate's. The example `ptp` (a routed veth pair) is a whole backend on about one
//! screen; read it beside this chapter.
//!
//! # Three parts
//!
//! 1. [`Wiring::declare`] is a pure function from the configuration and the addresses to a [`Declaration`]: the objects
//!    that must exist on the host and in the container, and the result that says so. Being pure it is tested without a
//!    kernel, and a dry run can print it.
//! 2. [`Wiring::finish`] waits until it works ([`ready`](crate::attach::ready)) and fills in what only the kernel knows.
//! 3. The verbs of [`NetworkBackend`](crate::NetworkBackend) hand these to [`attach::add`], [`attach::del`],
//!    [`attach::check`] and [`attach::gc`].
//!
//! # Own and shared
//!
//! [`Desired::own`] declares what belongs to this attachment: it is created exclusively, compared by CHECK, and removed
//! by DEL. [`Desired::share`] declares what all attachments use (a bridge, a forwarding switch): it is made where it is
//! missing, mended where it differs, and never removed by a DEL.
//!
//! # Names
//!
//! State is found by names that follow from the attachment alone, so that DEL needs neither the namespace nor the result
//! of ADD:
//!
//! * the host's end of the veth pair is [`Attachment::host_name`]: 15 bytes, by network, container *and* interface;
//! * its alias, and the comment of every nftables element, is [`Attachment::mark`].
//!
//! # Order
//!
//! ADD reserves addresses, then changes the kernel; a failure takes the kernel's part back, then releases the addresses.
//! DEL removes the kernel's part first and releases addresses last, so that no address is used again while old state
//! stands.
//!
//! # Without the engine
//!
//! The trait does not ask for any of this. A backend that talks to a daemon, or has no veth pair, implements the verbs
//! itself; the contract that is written on [`NetworkBackend`](crate::NetworkBackend) holds all the same, and
//! [`conformance`](super::testing) tests it. Ask [`Context::cancel`] between any two steps that change something, and
//! honour [`Context::dry_run`].
//!
//! [`Wiring::declare`]: crate::attach::Wiring::declare
//! [`Wiring::finish`]: crate::attach::Wiring::finish
//! [`Declaration`]: crate::attach::Declaration
//! [`attach::add`]: crate::attach::add
//! [`attach::del`]: crate::attach::del
//! [`attach::check`]: crate::attach::check
//! [`attach::gc`]: crate::attach::gc
//! [`Desired::own`]: crate::plan::Desired::own
//! [`Desired::share`]: crate::plan::Desired::share
//! [`Attachment::host_name`]: crate::spec::Attachment::host_name
//! [`Attachment::mark`]: crate::spec::Attachment::mark
//! [`Context::cancel`]: crate::backend::Context::cancel
//! [`Context::dry_run`]: crate::backend::Context::dry_run
