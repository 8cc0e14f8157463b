from taichi_avatars.viewer.timeline import Timeline


def test_plays_at_its_own_speed_however_seldom_it_is_asked() -> None:
    timeline = Timeline(range(100, 150), fps=25.0)
    assert (timeline.timestep, timeline.playing) == (100, False)
    timeline.play(now=10.0)
    timeline.advance(10.039)
    assert timeline.timestep == 100
    timeline.advance(10.04)
    assert timeline.timestep == 101
    timeline.advance(10.8)  # a slow machine leaves timesteps out
    assert timeline.timestep == 120
    assert abs(timeline.next_due(10.81) - 0.03) < 1e-9


def test_loops_or_stops_at_the_end_and_then_begins_again() -> None:
    timeline = Timeline(range(5), fps=10.0)
    timeline.play(0.0)
    timeline.advance(0.7)
    assert (timeline.index, timeline.playing) == (2, True)
    timeline.loop = False
    timeline.seek(1, 0.7)
    timeline.advance(2.0)
    assert (timeline.index, timeline.playing, timeline.next_due(2.0)) == (4, False, None)
    timeline.play(3.0)
    assert timeline.index == 0


def test_speed_changes_from_where_it_is() -> None:
    timeline = Timeline(range(100), fps=10.0)
    timeline.play(0.0)
    timeline.advance(1.0)
    timeline.set_speed(0.5, 1.0)
    timeline.advance(2.0)
    assert timeline.index == 15
    timeline.pause()
    timeline.advance(9.0)
    assert timeline.index == 15


def test_other_timesteps_begin_near_the_one_that_is_shown() -> None:
    timeline = Timeline(range(0, 100, 10), fps=10.0)
    timeline.seek(7, 0.0)
    timeline.choose([3, 66, 90], 0.0)
    assert timeline.timestep == 66
    timeline.choose([], 0.0)
    timeline.play(0.0)
    timeline.advance(5.0)
    assert (timeline.timestep, timeline.playing) == (None, False)
