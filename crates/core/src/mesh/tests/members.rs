//! Memberships that end while something is under way.

use super::*;

/// A link that is being made while the membership of the first host ends.
fn ends_during_an_attempt(end: impl Fn(&mut Lab)) -> Lab {
    let mut lab = Lab::new(&["a", "b"]);
    lab.is_slow = true;
    lab.send(0, "b", Class::Control, 10);
    assert_eq!(lab.slow.len(), 1, "an attempt is under way");
    end(&mut lab);
    lab.come_up();
    lab
}

#[test]
fn no_link_comes_up_after_the_own_certificate_has_ended() {
    let lab = ends_during_an_attempt(|lab| {
        let expires = lab.now + SECOND;
        let membership = RegistryEvent::Membership { expires };
        lab.hosts[0].mesh.handle_registry(lab.now, membership);
        lab.pass(2 * SECOND);
    });
    assert!(lab.peer(0).link.is_none());
}

#[test]
fn no_link_comes_up_after_this_node_was_revoked() {
    let lab = ends_during_an_attempt(|lab| {
        let ids = vec![lab.hosts[0].record.agent_id];
        let revocations = Vec::new();
        let revoked = RegistryEvent::Revoked { ids, revocations };
        lab.hosts[0].mesh.handle_registry(lab.now, revoked);
        lab.run();
    });
    assert!(lab.peer(0).link.is_none());
}

#[test]
fn a_client_that_comes_late_is_told_of_the_end_as_well() {
    let mut lab = Lab::new(&["a"]);
    let late = ClientId(7);
    let told = |lab: &mut Lab| {
        let mut told = None;
        while let Some((client, event)) = lab.hosts[0].mesh.poll_event() {
            if let (true, Event::CertificateExpiring { remaining }) = (client == late, event) {
                told = Some(remaining);
            }
        }
        told
    };
    lab.hosts[0].mesh.add_client(lab.now, late);
    assert_eq!(told(&mut lab), None);
    lab.hosts[0].mesh.remove_client(lab.now, late);
    let expires = lab.now + EXPIRY_NOTICE;
    let membership = RegistryEvent::Membership { expires };
    lab.hosts[0].mesh.handle_registry(lab.now, membership);
    lab.now += SECOND;
    lab.hosts[0].mesh.add_client(lab.now, late);
    assert_eq!(told(&mut lab), Some(EXPIRY_NOTICE - SECOND));
    lab.hosts[0].mesh.remove_client(expires, late);
    lab.hosts[0].mesh.add_client(expires, late);
    assert_eq!(told(&mut lab), None, "it has ended");
}
