//! The clock is set while somebody waits and somebody holds a grant (FC6): nobody agrees and nobody gets in before it
//! can be believed again, and nothing that was asked or given is lost over it.

use super::*;
use crate::time::Seen;

#[tokio::test]
async fn a_step_either_way_stops_yes_and_openings_until_the_clock_is_steady() {
    for step in [-3_600_000_000, 3_600_000_000] {
        let scene = Scene::new().await;
        let began = crate::time::seen().await;
        let tick = async |after: u64, step: i64| {
            let wall = began.wall.plus(Duration::from_secs(after)).micros() + step;
            let boot = began.boot + Duration::from_secs(after);
            let seen = Seen { wall: Timestamp::from_micros(wall), boot, boot_id: began.boot_id.clone(), synchronised: true };
            scene.approvals.clock.tick(seen).await.unwrap();
        };
        let (waits, other) = (scene.pending("lead").await, scene.pending("pair").await);
        let given = scene.approved(Ask { once: true, ..scene.ask(&["lead"]) }).await;
        tick(1, 0).await;

        tick(2, step).await;

        let agreed = scene.decide("bob", waits, Verdict::Approve).await;
        assert!(matches!(&agreed, Err(ApprovalError::Clock(why)) if why.contains("the clock went")), "{agreed:?}");
        let opened = scene.open(given, at(1)).await;
        assert!(matches!(opened, Err(OpenError::Clock(_))), "{opened:?}");
        assert!(matches!(scene.decide("bob", other, Verdict::Deny).await, Ok(RequestState::Denied { .. })), "a no needs no clock");
        assert_eq!((scene.state(waits).await, scene.grant(given).await.state), (RequestState::Pending, GrantState::Open));

        for second in 3..65 {
            tick(second, step).await;
        }
        assert_eq!(scene.decide("bob", waits, Verdict::Approve).await.unwrap(), RequestState::Approved);
        scene.open(given, at(1)).await.unwrap();
    }
}
