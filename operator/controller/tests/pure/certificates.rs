//! What is issued when, over the years.

use ping_operator::certificates::{
    AuthorityStep, BUNDLE, CERTIFICATE, KEY, Renewed, SecretData, Usage, WantedCertificate, plan, renew,
};

const DAY: i64 = 24 * 60 * 60;
const START: i64 = 1_800_000_000;

fn wanted() -> WantedCertificate {
    WantedCertificate {
        component: "cache",
        names: ["demo-cache.default.svc".to_owned(), "192.0.2.7".to_owned()].into(),
        usages: [Usage::Server].into(),
        lifetime: 90 * DAY,
    }
}

fn first() -> Renewed {
    renew(None, &[(wanted(), None)], START).unwrap()
}

fn step(authority: &SecretData, certificate: &SecretData, now: i64) -> (AuthorityStep, bool) {
    let (step, stale) = plan(Some(authority), &[(wanted(), Some(certificate))], now);
    (step, stale[0])
}

fn text(data: &SecretData, key: &str) -> String {
    String::from_utf8(data[key].0.clone()).unwrap()
}

#[test]
fn what_is_missing_is_issued_and_what_is_there_is_kept() {
    let Renewed { authority, certificates } = first();
    assert_eq!(step(&authority, &certificates[0], START), (AuthorityStep::Keep, false));
    let again = renew(Some(&authority), &[(wanted(), Some(&certificates[0]))], START + DAY).unwrap();
    assert!(again.authority == authority && again.certificates == certificates);
    assert!(text(&certificates[0], CERTIFICATE).contains("BEGIN CERTIFICATE"));
    assert!(text(&certificates[0], KEY).contains("PRIVATE KEY"));
    assert!(!text(&authority, BUNDLE).contains("PRIVATE KEY"));
}

#[test]
fn a_certificate_is_renewed_after_two_thirds_of_its_lifetime_or_when_it_no_longer_fits() {
    let Renewed { authority, certificates } = first();
    let certificate = &certificates[0];
    for (days, due) in [(59, false), (61, true), (91, true)] {
        assert_eq!(step(&authority, certificate, START + days * DAY), (AuthorityStep::Keep, due), "{days} days");
    }
    let differs = |changed: WantedCertificate| plan(Some(&authority), &[(changed, Some(certificate))], START).1[0];
    assert!(!differs(wanted()));
    assert!(differs(WantedCertificate { names: ["other".to_owned()].into(), ..wanted() }));
    assert!(differs(WantedCertificate { usages: [Usage::Client].into(), ..wanted() }));
    let of_another = first();
    assert!(step(&of_another.authority, certificate, START).1, "it was issued by another authority");
    let mut damaged = certificate.clone();
    damaged.remove(KEY);
    assert!(step(&authority, &damaged, START).1);
}

/// Plays ten years, a reconcile every six hours. Clients get a new bundle six hours after it was written.
#[test]
fn at_no_time_does_a_client_meet_an_unknown_authority() {
    let Renewed { mut authority, mut certificates } = first();
    let (mut trusted, mut steps) = (text(&authority, BUNDLE), Vec::new());
    let mut renewals = 0;
    for hours in (6..10 * 365 * 24).step_by(6) {
        let now = START + hours * 60 * 60;
        let (step, stale) = plan(Some(&authority), &[(wanted(), Some(&certificates[0]))], now);
        let renewed = renew(Some(&authority), &[(wanted(), Some(&certificates[0]))], now).unwrap();
        if step != AuthorityStep::Keep {
            steps.push(step);
        }
        renewals += usize::from(stale[0]);
        Renewed { authority, certificates } = renewed;
        let issuer = text(&authority, "signer.crt");
        assert!(trusted.contains(issuer.trim()), "after {hours} hours, clients do not trust the authority that signs");
        trusted = text(&authority, BUNDLE);
        assert!(trusted.matches("BEGIN").count() <= 3, "{trusted}");
    }
    // A next authority every two years: 24 months of 36, and a day until it signs.
    let expected = [AuthorityStep::AddNext, AuthorityStep::Promote].repeat(4);
    assert_eq!(steps, expected);
    assert!((60..75).contains(&renewals), "{renewals} renewals in ten years");
}

#[test]
fn an_authority_that_expired_unnoticed_is_replaced_at_once() {
    let Renewed { authority, certificates } = first();
    let late = START + 4 * 365 * DAY;
    assert_eq!(step(&authority, &certificates[0], late), (AuthorityStep::Create, true));
    let renewed = renew(Some(&authority), &[(wanted(), Some(&certificates[0]))], late).unwrap();
    assert_eq!(text(&renewed.authority, BUNDLE).matches("BEGIN").count(), 1, "the expired one is no longer trusted");
    assert_eq!(step(&renewed.authority, &renewed.certificates[0], late), (AuthorityStep::Keep, false));
}

#[test]
fn a_key_that_another_client_damaged_is_reported() {
    let Renewed { mut authority, .. } = first();
    authority.get_mut("signer.key").unwrap().0 = b"nonsense".to_vec();
    let error = renew(Some(&authority), &[(wanted(), None)], START).err().unwrap().to_string();
    assert!(error.contains("delete the Secret"), "{error}");
}
