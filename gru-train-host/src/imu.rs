//! A generator of wrist-worn motion recordings: accelerometer and gyroscope at 50 Hz, 8 classes.
//!
//! Real recordings may rarely be shipped, so the demo makes its own. A person is an arm of two
//! segments that hangs from a moving body; each activity moves the joint angles and the body:
//!
//! * **walk, run**: cadence and arm swing of the person, bounce and sway of the body at step and
//!   stride frequency with harmonics, heel strikes;
//! * **stir_cw, stir_ccw**: the hand goes round, clockwise or the other way as seen from above: the
//!   two differ in the order of things and in nothing else;
//! * **wave**: the raised forearm swings from side to side;
//! * **knock**: bursts of two to five blows with pauses;
//! * **screw**: the forearm turns slowly one way and quickly back, as with a screwdriver;
//! * **rest**: hanging, on the table or in the lap, with sway and fidgeting.
//!
//! Rest, stir, screw and knock share their postures, so that the mean of a window says little; what
//! tells them apart is the movement. Angles are followed at 200 Hz; the specific force is the second
//! difference of the wrist's position minus gravity, seen in the frame of the sensor, the angular
//! rate is the derivative of that frame: both sensors tell one story. Then come the sensor's
//! own faults: turned and mirrored mounting, scale, cross-axis sensitivity, bias with drift, noise,
//! saturation at ±8 g and ±2000 °/s, rounding to 16-bit counts.
//!
//! Recordings are continuous. Between two activities the arm moves over within about 0.7 s; these
//! steps are unlabelled. Everything follows from the seed, with the same bits on every platform:
//! trigonometry comes from the `libm` crate, not from the system.

use libm::{cos, exp, log, sin, sqrt};

use crate::dataset::split::Random;
use crate::dataset::{Counts, Dataset, Labels, Sequence, UNLABELLED};

/// Class names, in the order of the labels.
pub const CLASSES: [&str; 8] = [
    "rest", "walk", "run", "stir_cw", "stir_ccw", "wave", "knock", "screw",
];
/// Feature names: specific force in g, angular rate in rad/s.
pub const FEATURES: [&str; 6] = ["acc_x", "acc_y", "acc_z", "gyro_x", "gyro_y", "gyro_z"];
/// Steps per second.
pub const SAMPLE_RATE_HZ: f32 = 50.0;
/// ±8 g over 16 bits.
pub const COUNTS_PER_G: f32 = 4096.0;
/// ±2000 °/s over 16 bits.
pub const COUNTS_PER_RAD_S: f32 = 938.734;

const PI: f64 = std::f64::consts::PI;
const TAU: f64 = std::f64::consts::TAU;
const GRAVITY: f64 = 9.80665;
/// Movements are followed at four times the sample rate; the sensor averages four values.
const FINE: usize = 4;
const DT: f64 = 1.0 / (50.0 * FINE as f64);
const UPPER_ARM_M: f64 = 0.30;
const FOREARM_M: f64 = 0.25;

const REST: usize = 0;
const WALK: usize = 1;
const RUN: usize = 2;
const STIR_CW: usize = 3;
const STIR_CCW: usize = 4;
const WAVE: usize = 5;
const KNOCK: usize = 6;

/// How much to record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImuConfig {
    /// Number of persons.
    pub persons: usize,
    /// Recordings of each person; the watch is put on anew for each.
    pub recordings: usize,
    /// Length of a recording.
    pub seconds: f64,
}

impl Default for ImuConfig {
    /// 48 persons, one recording of two minutes each: 288 000 steps.
    fn default() -> Self {
        Self {
            persons: 48,
            recordings: 1,
            seconds: 120.0,
        }
    }
}

/// Makes the recordings of `config.persons` people, one sequence per recording, with a label per
/// step ([`UNLABELLED`] in transitions). A person's data depend on the seed and the person's number
/// only, so a larger set contains the smaller one.
pub fn generate(config: &ImuConfig, seed: u64) -> Dataset {
    let mut data = Dataset {
        name: "wrist_imu".into(),
        features: FEATURES.map(str::to_owned).to_vec(),
        counts_per_unit: (0..6)
            .map(|k| {
                if k < 3 {
                    COUNTS_PER_G
                } else {
                    COUNTS_PER_RAD_S
                }
            })
            .collect(),
        classes: CLASSES.map(str::to_owned).to_vec(),
        sample_rate_hz: SAMPLE_RATE_HZ,
        ..Dataset::default()
    };
    let steps = (config.seconds * f64::from(SAMPLE_RATE_HZ)) as usize;
    // People are independent of each other, so each thread takes every n-th of them.
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let takes = &|number: usize| {
        let person = Person::new(&mut Chance::new(seed, number as u64, u64::MAX));
        (0..config.recordings)
            .map(|take| {
                let mut random = Chance::new(seed, number as u64, take as u64);
                record(&person, steps, &mut random)
            })
            .collect::<Vec<_>>()
    };
    let mut made: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                let mine = (first..config.persons).step_by(threads);
                scope.spawn(move || mine.map(|n| (n, takes(n))).collect::<Vec<_>>())
            })
            .collect();
        (workers.into_iter())
            .flat_map(|w| w.join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
            .collect()
    });
    made.sort_by_key(|(number, _)| *number);
    for (number, takes) in made {
        data.subjects.push(format!("person_{:02}", number + 1));
        for (take, (counts, labels)) in takes.into_iter().enumerate() {
            data.sequences.push(Sequence {
                recording: data.recordings.len() as u32,
                subject: Some(number as u32),
                counts: Counts::I16(counts),
                labels: Labels::Steps(labels),
                part: None,
            });
            let name = format!("person_{:02}_take_{}", number + 1, take + 1);
            data.recordings.push(name);
        }
    }
    data
}

/// Random numbers of one person or recording.
struct Chance {
    random: Random,
    spare: Option<f64>,
}

impl Chance {
    fn new(seed: u64, person: u64, take: u64) -> Self {
        let mut random = Random::new(seed);
        let a = random.bits() ^ person.wrapping_mul(0x9e6c_63d0_876a_3f35);
        let b = Random::new(a).bits() ^ take.wrapping_mul(0xc3a5_c85c_97cb_3127);
        Self {
            random: Random::new(b),
            spare: None,
        }
    }

    fn unit(&mut self) -> f64 {
        (self.random.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Standard normal (Box–Muller).
    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let radius = sqrt(-2.0 * log(1.0 - self.unit()));
        let angle = TAU * self.unit();
        self.spare = Some(radius * sin(angle));
        radius * cos(angle)
    }

    /// Normal, kept within two deviations.
    fn about(&mut self, mean: f64, deviation: f64) -> f64 {
        mean + deviation * self.normal().clamp(-2.0, 2.0)
    }
}

/// A random wander around zero with a given deviation and time scale, smooth enough to be
/// differentiated twice: noise through three equal low-pass filters.
#[derive(Clone, Copy)]
struct Wander {
    stages: [f64; 3],
    keep: f64,
    kick: f64,
}

impl Wander {
    fn new(deviation: f64, seconds: f64, random: &mut Chance) -> Self {
        let keep = exp(-DT / seconds);
        // The second and third filter leave 1/2 and 3/8 of the variance.
        let first = deviation * sqrt(8.0 / 3.0);
        Self {
            stages: [deviation * random.normal(); 3],
            keep,
            kick: first * sqrt(1.0 - keep * keep),
        }
    }

    fn now(&self) -> f64 {
        self.stages[2]
    }

    fn step(&mut self, random: &mut Chance) -> f64 {
        let [a, b, c] = &mut self.stages;
        *a = *a * self.keep + self.kick * random.normal();
        *b += (*a - *b) * (1.0 - self.keep);
        *c += (*b - *c) * (1.0 - self.keep);
        *c
    }
}

type Vector = [f64; 3];
/// Rows.
type Matrix = [[f64; 3]; 3];

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let cell = |i: usize, j: usize| a[i][0] * b[0][j] + a[i][1] * b[1][j] + a[i][2] * b[2][j];
    [0, 1, 2].map(|i| [0, 1, 2].map(|j| cell(i, j)))
}

fn apply(a: &Matrix, v: Vector) -> Vector {
    a.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

fn transposed(a: &Matrix) -> Matrix {
    [0, 1, 2].map(|i| [0, 1, 2].map(|j| a[j][i]))
}

fn about_x(angle: f64) -> Matrix {
    let (s, c) = (sin(angle), cos(angle));
    [[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]]
}

fn about_y(angle: f64) -> Matrix {
    let (s, c) = (sin(angle), cos(angle));
    [[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]]
}

fn about_z(angle: f64) -> Matrix {
    let (s, c) = (sin(angle), cos(angle));
    [[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]]
}

/// Habits of a person, constant over all recordings.
struct Person {
    left_handed: bool,
    /// Strides (two steps) per second.
    walk_hz: f64,
    run_hz: f64,
    /// Shoulder swing in walking, rad; small for a hand in the pocket.
    swing: f64,
    /// Second and third harmonic of gait, relative.
    harmonics: [f64; 2],
    /// Difference between the two steps of a stride.
    limp: f64,
    bounce: f64,
    strike: f64,
    /// Factors on speed and size of gestures.
    tempo: f64,
    vigour: f64,
    tremor: f64,
    /// Usual desk posture: elbow, pronation.
    elbow: f64,
    pronation: f64,
    turned_watch: bool,
    strap_angle: f64,
}

impl Person {
    fn new(random: &mut Chance) -> Self {
        let pocket = random.unit() < 0.15;
        Self {
            left_handed: random.unit() < 0.25,
            walk_hz: random.about(0.92, 0.08),
            run_hz: random.about(1.32, 0.09),
            swing: if pocket {
                random.between(0.04, 0.10)
            } else {
                random.about(0.34, 0.09)
            },
            harmonics: [random.about(0.0, 0.22), random.about(0.0, 0.14)],
            limp: random.about(0.0, 0.12),
            bounce: random.about(0.020, 0.004),
            strike: random.about(0.5, 0.15),
            tempo: exp(random.about(0.0, 0.14)),
            vigour: exp(random.about(0.0, 0.22)),
            tremor: exp(random.about(0.0, 0.3)),
            elbow: random.about(1.35, 0.12),
            pronation: random.about(0.2, 0.25),
            turned_watch: random.unit() < 0.1,
            strap_angle: random.about(0.0, 0.14),
        }
    }
}

/// Joint angles (rad) and displacement of the body (m).
#[derive(Clone, Copy, Default)]
struct Pose {
    /// Shoulder: forward.
    flexion: f64,
    /// Shoulder: sideways, away from the body.
    abduction: f64,
    /// Upper arm about its own axis; inwards.
    rotation: f64,
    elbow: f64,
    /// Forearm about its own axis.
    pronation: f64,
    body: Vector,
    /// Direct push on the forearm along and across, m/s²: blows, heel strikes.
    push: Vector,
}

impl Pose {
    fn mixed(self, other: Self, share: f64) -> Self {
        let mix = |a: f64, b: f64| a + (b - a) * share;
        let all = |a: Vector, b: Vector| [0, 1, 2].map(|k| mix(a[k], b[k]));
        Self {
            flexion: mix(self.flexion, other.flexion),
            abduction: mix(self.abduction, other.abduction),
            rotation: mix(self.rotation, other.rotation),
            elbow: mix(self.elbow, other.elbow),
            pronation: mix(self.pronation, other.pronation),
            body: all(self.body, other.body),
            push: all(self.push, other.push),
        }
    }
}

/// A push that rings out: struck at times, seen as a damped oscillation.
#[derive(Clone, Copy, Default)]
struct Ring {
    size: f64,
    age: f64,
}

impl Ring {
    fn strike(&mut self, size: f64) {
        *self = Self { size, age: 0.0 };
    }

    fn step(&mut self) -> f64 {
        self.age += DT;
        self.size * exp(-self.age / 0.022) * cos(TAU * 19.0 * self.age)
    }
}

/// One activity for some seconds.
struct Activity {
    class: usize,
    base: Pose,
    /// Cycles per second and size, with their wander.
    hz: f64,
    size: f64,
    speed: Wander,
    effort: Wander,
    drift: [Wander; 4],
    shake: [Wander; 2],
    phase: f64,
    /// Size ratio of the two axes of a movement, and its tilt.
    ellipse: f64,
    ring: Ring,
    /// Knocking: time to the next blow, blows left in this burst.
    wait: f64,
    blows: u32,
    blow_age: f64,
    fidget: f64,
}

impl Activity {
    fn new(class: usize, person: &Person, random: &mut Chance) -> Self {
        let hanging = Pose {
            flexion: random.about(0.05, 0.08),
            abduction: random.about(0.12, 0.05),
            rotation: random.about(0.15, 0.15),
            elbow: random.about(0.25, 0.12),
            pronation: random.about(0.1, 0.25),
            ..Pose::default()
        };
        // Forearm about level: at a desk, over a pot, at a door.
        let level = Pose {
            flexion: random.about(0.35, 0.18),
            abduction: random.about(0.2, 0.1),
            rotation: random.about(0.35, 0.25),
            elbow: person.elbow + random.about(0.0, 0.14),
            pronation: person.pronation + random.about(0.0, 0.3),
            ..Pose::default()
        };
        let raised = Pose {
            flexion: random.about(0.75, 0.25),
            abduction: random.about(0.3, 0.15),
            rotation: random.about(0.1, 0.25),
            elbow: random.about(1.7, 0.2),
            pronation: person.pronation + random.about(0.2, 0.3),
            ..Pose::default()
        };
        let running = Pose {
            elbow: random.about(1.4, 0.15),
            flexion: random.about(-0.05, 0.12),
            ..hanging
        };
        let (tempo, vigour) = (person.tempo, person.vigour);
        let (base, hz, size) = match class {
            REST => {
                let base = if random.unit() < 0.4 { hanging } else { level };
                (base, 0.25, 0.006)
            }
            WALK => (hanging, person.walk_hz * random.about(1.0, 0.05), 1.0),
            RUN => (running, person.run_hz * random.about(1.0, 0.05), 1.0),
            STIR_CW | STIR_CCW => (
                level,
                tempo * random.about(1.25, 0.25),
                vigour * random.about(0.17, 0.04),
            ),
            WAVE => {
                let base = if random.unit() < 0.3 { level } else { raised };
                let size = vigour * random.about(0.3, 0.07);
                (base, tempo * random.about(1.7, 0.3), size)
            }
            KNOCK => {
                let base = if random.unit() < 0.4 { raised } else { level };
                let size = vigour * random.about(0.26, 0.06);
                (base, tempo * random.about(3.6, 0.5), size)
            }
            _ => (
                level,
                tempo * random.about(1.3, 0.25),
                vigour * random.about(0.35, 0.08),
            ),
        };
        let shake = 0.0012 * person.tremor;
        Self {
            class,
            base,
            hz,
            size,
            speed: Wander::new(0.05, 1.5, random),
            effort: Wander::new(0.12, 1.0, random),
            drift: [0; 4].map(|_| Wander::new(0.035, 3.0, random)),
            shake: [0; 2].map(|_| Wander::new(shake, 0.02, random)),
            phase: random.between(0.0, TAU),
            ellipse: random.about(1.0, 0.22),
            ring: Ring::default(),
            wait: random.between(0.0, 0.4),
            blows: 0,
            blow_age: 9.0,
            fidget: random.between(1.0, 4.0),
        }
    }

    /// Moves on by [`DT`].
    fn step(&mut self, person: &Person, random: &mut Chance) -> Pose {
        let before = self.phase;
        self.phase += TAU * self.hz * (1.0 + self.speed.step(random)) * DT;
        let size = self.size * (1.0 + self.effort.step(random)).max(0.2);
        let phase = self.phase;
        // Whether the phase has passed a multiple of `period` since the last step.
        let passed = |period: f64| (phase / period).floor() > (before / period).floor();
        let mut pose = self.base;
        pose.flexion += self.drift[0].step(random);
        pose.rotation += self.drift[1].step(random);
        pose.elbow += self.drift[2].step(random) + self.shake[0].step(random);
        pose.pronation += self.drift[3].step(random) + self.shake[1].step(random);
        match self.class {
            REST => {
                pose.body = [0.004 * sin(phase), 0.004 * sin(0.7 * phase), 0.0];
                self.fidget -= DT;
                if self.fidget < 0.0 {
                    // A short movement of no meaning, then another wait.
                    self.fidget = random.between(1.5, 6.0);
                    self.blow_age = 0.0;
                    self.ellipse = random.about(0.0, 0.12);
                }
                self.blow_age += DT;
                let bump = bump(self.blow_age / 0.9) * self.ellipse;
                pose.pronation += 2.0 * bump;
                pose.elbow += bump;
            }
            WALK | RUN => {
                let run = self.class == RUN;
                let (swing, bend, bounce, sway) = match run {
                    false => (person.swing, 0.35 * person.swing, person.bounce, 0.018),
                    true => (0.42 + 0.4 * person.swing, 0.2, 2.1 * person.bounce, 0.012),
                };
                let [second, third] = person.harmonics;
                let wave = sin(phase) + second * sin(2.0 * phase + 0.6) + third * sin(3.0 * phase);
                pose.flexion += swing * size * wave;
                pose.elbow += bend * size * (1.0 + sin(phase - 0.5));
                pose.rotation += 0.25 * swing * size * sin(phase + 0.3);
                pose.pronation += 0.15 * swing * sin(phase + 1.0);
                let step = 2.0 * phase;
                pose.body = [
                    0.4 * bounce * sin(step + 0.9),
                    sway * sin(phase + 0.2),
                    bounce * (cos(step) + person.limp * cos(phase) + 0.18 * cos(2.0 * step + 0.8)),
                ];
                if passed(PI) {
                    let hard = if run { 9.0 } else { 3.0 };
                    let side = 1.0 + person.limp * cos(phase);
                    self.ring
                        .strike(hard * person.strike * side * random.about(1.0, 0.15));
                }
                let shock = self.ring.step();
                pose.push = [shock, 0.15 * shock, 0.35 * shock];
            }
            STIR_CW | STIR_CCW => {
                // In the frame of a right arm; the mirror for left-handers turns it round again.
                let cw = (self.class == STIR_CW) != person.left_handed;
                let sense = if cw { 1.0 } else { -1.0 };
                pose.elbow += size * self.ellipse * cos(phase) * 0.9;
                pose.flexion += size * self.ellipse * cos(phase) * 0.9;
                pose.rotation += sense * size * 1.25 * sin(phase);
                pose.pronation += 0.25 * size * sin(phase + self.ellipse * 7.0);
            }
            WAVE => {
                pose.rotation += size * 1.2 * sin(phase);
                pose.abduction += 0.35 * size * sin(phase + 0.4);
                pose.pronation += 0.5 * size * sin(phase - 0.7);
                pose.elbow += 0.15 * size * cos(2.0 * phase);
            }
            KNOCK => {
                self.wait -= DT;
                if self.wait < 0.0 {
                    if self.blows == 0 {
                        self.blows = 2 + (random.unit() * 4.0) as u32;
                    }
                    self.blows -= 1;
                    self.blow_age = 0.0;
                    self.effort.stages = [0.15 * random.normal(); 3];
                    let usual = 1.0 / self.hz;
                    self.wait = usual * random.about(1.0, 0.07);
                    if self.blows == 0 {
                        self.wait += random.between(0.4, 1.3);
                    }
                }
                let length = 0.85 / self.hz;
                let (old, now) = (self.blow_age, self.blow_age + DT);
                self.blow_age = now;
                let stroke = bump(now / length);
                pose.elbow += size * stroke;
                pose.flexion -= 0.3 * size * stroke;
                let hit = 0.8 * length;
                if old < hit && now >= hit {
                    self.ring.strike(110.0 * size * random.about(1.0, 0.25));
                }
                let shock = self.ring.step();
                pose.push = [0.6 * shock, 0.1 * shock, shock];
            }
            _ => {
                // Turn for two thirds of the cycle, let go, and back in a third.
                let at = (phase / TAU).rem_euclid(1.0);
                let turn = match at < 0.66 {
                    true => -cos(PI * at / 0.66),
                    false => cos(PI * (at - 0.66) / 0.34),
                };
                let sense = if person.left_handed { -1.0 } else { 1.0 };
                pose.pronation += sense * size * turn;
                pose.elbow += 0.08 * size * turn;
                pose.rotation += 0.06 * size * sin(phase);
            }
        }
        pose
    }
}

/// A smooth hill over `0..1`, zero elsewhere.
fn bump(x: f64) -> f64 {
    if (0.0..1.0).contains(&x) {
        let s = sin(PI * x);
        s * s
    } else {
        0.0
    }
}

/// From 0 to 1 with the least jerk.
fn ease(x: f64) -> f64 {
    let x = x.clamp(0.0, 1.0);
    x * x * x * (10.0 + x * (6.0 * x - 15.0))
}

/// Where the wrist is in the world, and the frame of the sensor (columns are its axes): x along the
/// forearm to the hand, z out of the face of the watch.
fn wrist(pose: &Pose, heading: f64, mounting: &Matrix) -> (Vector, Matrix) {
    let body = about_z(heading);
    let upper = product(
        &body,
        &product(&about_x(pose.abduction), &about_y(-pose.flexion)),
    );
    let upper = product(&upper, &about_z(pose.rotation));
    let fore = product(&upper, &about_y(-pose.elbow));
    let shift = apply(&body, pose.body);
    let (a, b) = (
        apply(&upper, [0.0, 0.0, -UPPER_ARM_M]),
        apply(&fore, [0.0, 0.0, -FOREARM_M]),
    );
    let at = [0, 1, 2].map(|k| shift[k] + a[k] + b[k]);
    let turned = product(&fore, &about_z(pose.pronation));
    // Columns: x is −z of the arm, y is y, z is x: with the elbow bent the face of the watch is up.
    let watch = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]];
    let frame = product(&turned, &watch);
    (at, product(&frame, mounting))
}

/// Specific force (m/s²) and angular rate (rad/s) in the frame of the sensor at the middle one of
/// three places that follow each other by [`DT`].
fn sense([before, here, after]: [&(Vector, Matrix); 3]) -> (Vector, Vector) {
    let world = [0, 1, 2].map(|i| (after.0[i] - 2.0 * here.0[i] + before.0[i]) / (DT * DT));
    // Gravity points down; a sensor at rest feels the push that holds it up.
    let back = transposed(&here.1);
    let force = apply(&back, [world[0], world[1], world[2] + GRAVITY]);
    // Rᵀ·dR/dt is the cross-product matrix of the rate.
    let change: Matrix =
        [0, 1, 2].map(|i| [0, 1, 2].map(|j| (after.1[i][j] - before.1[i][j]) / (2.0 * DT)));
    let w = product(&back, &change);
    let rate = [w[2][1] - w[1][2], w[0][2] - w[2][0], w[1][0] - w[0][1]];
    (force, rate.map(|twice| 0.5 * twice))
}

/// Faults of one sensor put on once.
struct Sensor {
    mounting: Matrix,
    /// Scale and cross-axis errors.
    mix: [Matrix; 2],
    bias: [f64; 6],
    drift: [Wander; 6],
    noise: [f64; 2],
}

impl Sensor {
    fn new(person: &Person, random: &mut Chance) -> Self {
        let turn = if person.turned_watch { PI } else { 0.0 };
        let strap = person.strap_angle + random.about(0.0, 0.08);
        let mounting = product(
            &about_x(strap),
            &product(
                &about_y(random.about(0.0, 0.06)),
                &about_z(turn + random.about(0.0, 0.1)),
            ),
        );
        let mut matrix = || {
            [0, 1, 2]
                .map(|i| [0, 1, 2].map(|j| f64::from(u8::from(i == j)) + random.about(0.0, 0.008)))
        };
        let mix = [matrix(), matrix()];
        Self {
            mounting,
            mix,
            // g and rad/s
            bias: [0; 6].map(|_| random.about(0.0, 0.02)),
            drift: [0, 1, 2, 3, 4, 5]
                .map(|k| Wander::new(if k < 3 { 0.002 } else { 0.004 }, 20.0, random)),
            noise: [0.004, 0.003],
        }
    }

    /// Counts of one sample from the force (g) and the rate (rad/s) in the sensor's frame.
    fn counts(&mut self, force: Vector, rate: Vector, random: &mut Chance) -> [i16; 6] {
        let [force, rate] = [apply(&self.mix[0], force), apply(&self.mix[1], rate)];
        [0, 1, 2, 3, 4, 5].map(|k| {
            let (value, unit, noise) = match k {
                0..3 => (force[k], COUNTS_PER_G, self.noise[0]),
                _ => (rate[k - 3], COUNTS_PER_RAD_S, self.noise[1]),
            };
            let value = value + self.bias[k] + self.drift[k].now() + noise * random.normal();
            libm::rint(value * f64::from(unit)) as i16 // the cast saturates, as the sensor does
        })
    }
}

/// One continuous recording: counts (steps × 6) and labels.
fn record(person: &Person, steps: usize, random: &mut Chance) -> (Vec<i16>, Vec<u16>) {
    let mut sensor = Sensor::new(person, random);
    let mut counts = Vec::with_capacity(steps * 6);
    let mut labels = Vec::with_capacity(steps);
    let mut bag: Vec<usize> = Vec::new();
    let mut draw = |not: usize, random: &mut Chance| {
        if bag.is_empty() {
            bag = (0..CLASSES.len()).collect();
        }
        let mut at = (random.unit() * bag.len() as f64) as usize;
        if bag[at] == not && bag.len() > 1 {
            at = (at + 1) % bag.len();
        }
        bag.swap_remove(at)
    };
    let mut now = Activity::new(draw(usize::MAX, random), person, random);
    let mut before: Option<Activity> = None;
    let mut left = random.between(5.0, 11.0);
    let (mut change, mut change_seconds) = (0.0, 1.0);
    let mut heading = random.between(0.0, TAU);
    let mut turning = Wander::new(0.25, 2.0, random);
    let mut track: Vec<(Vector, Matrix)> = Vec::with_capacity(FINE + 2);
    let mut pushes: Vec<Vector> = Vec::with_capacity(FINE + 2);
    while labels.len() < steps {
        let mut blending = false;
        while track.len() < FINE + 2 {
            left -= DT;
            if left < 0.0 && before.is_none() {
                let class = draw(now.class, random);
                let next = Activity::new(class, person, random);
                before = Some(std::mem::replace(&mut now, next));
                (change, change_seconds) = (0.0, random.between(0.5, 0.9));
                left = random.between(5.0, 11.0);
            }
            let mut pose = now.step(person, random);
            if let Some(old) = &mut before {
                change += DT / change_seconds;
                pose = old.step(person, random).mixed(pose, ease(change));
                blending = true;
                if change >= 1.0 {
                    before = None;
                }
            }
            // People turn round while they walk and run, and hardly otherwise.
            let moving = matches!(now.class, WALK | RUN);
            heading += turning.step(random) * if moving { 1.0 } else { 0.1 } * DT;
            track.push(wrist(&pose, heading, &sensor.mounting));
            pushes.push(pose.push);
        }
        let (mut force, mut rate) = ([0.0; 3], [0.0; 3]);
        for k in 1..=FINE {
            let (seen, turn) = sense([&track[k - 1], &track[k], &track[k + 1]]);
            for i in 0..3 {
                force[i] += (seen[i] + pushes[k][i]) / (GRAVITY * FINE as f64);
                rate[i] += turn[i] / FINE as f64;
            }
        }
        if person.left_handed {
            // The mirror image of the whole scene in the plane that separates left from right.
            force[1] = -force[1];
            rate = [-rate[0], rate[1], -rate[2]];
        }
        sensor.drift.iter_mut().for_each(|d| {
            d.step(random);
        });
        counts.extend(sensor.counts(force, rate, random));
        labels.push(match blending || before.is_some() {
            true => UNLABELLED,
            false => now.class as u16,
        });
        // The last two points are the first two of the next sample.
        track.drain(..FINE);
        pushes.drain(..FINE);
    }
    (counts, labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Dataset {
        let config = ImuConfig {
            persons: 3,
            recordings: 1,
            seconds: 60.0,
        };
        generate(&config, 7)
    }

    /// FNV-1a over all counts and labels: the same on every platform.
    fn digest(data: &Dataset) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325u64;
        let mut add = |value: i32| {
            for byte in value.to_le_bytes() {
                hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for (n, s) in data.sequences.iter().enumerate() {
            for k in 0..s.counts.len() {
                add(s.counts.get(k).unwrap_or(0));
            }
            (0..data.steps(n)).for_each(|t| add(i32::from(data.label(n, t))));
        }
        hash
    }

    #[test]
    fn same_seed_same_bits_and_a_larger_set_contains_the_smaller() {
        let a = small();
        let more = ImuConfig {
            persons: 4,
            recordings: 1,
            seconds: 60.0,
        };
        assert_eq!(a.sequences[..3], generate(&more, 7).sequences[..3]);
        assert_ne!(a.sequences[0], generate(&more, 8).sequences[0]);
        assert_ne!(a.sequences[0].counts, a.sequences[1].counts);
        assert_eq!(
            digest(&a),
            0xc4f4_1811_98cf_2f2a,
            "bits changed: note it in the CHANGELOG"
        );
    }

    #[test]
    fn a_still_arm_feels_gravity_and_nothing_else() {
        let data = small();
        let mut force = Vec::new();
        let mut rate = Vec::new();
        for n in 0..data.sequences.len() {
            for t in 0..data.steps(n) {
                let c = |k: usize| {
                    f64::from(data.sequences[n].counts.get(t * 6 + k).unwrap_or(0))
                        / f64::from(data.counts_per_unit[k])
                };
                if data.label(n, t) == REST as u16 {
                    force.push(sqrt(c(0) * c(0) + c(1) * c(1) + c(2) * c(2)));
                    rate.push(sqrt(c(3) * c(3) + c(4) * c(4) + c(5) * c(5)));
                }
            }
        }
        let mean = force.iter().sum::<f64>() / force.len() as f64;
        assert!((mean - 1.0).abs() < 0.05, "{mean} g at rest");
        rate.sort_by(f64::total_cmp);
        let median = rate[rate.len() / 2];
        assert!(median < 0.6, "{median} rad/s at rest");
    }

    /// Turning by the measured rate, step by step, leads to the true frame at the end, and the force
    /// of a slow movement is gravity seen from there: both sensors tell one story.
    #[test]
    fn rate_and_force_agree() {
        let track: Vec<(Vector, Matrix)> = (0..2000)
            .map(|k| {
                let t = f64::from(k) * DT;
                let pose = Pose {
                    flexion: 0.3 * sin(0.5 * t),
                    abduction: 0.2 * t,
                    elbow: 0.3 + 0.05 * t,
                    pronation: 0.4 * sin(0.9 * t),
                    ..Pose::default()
                };
                wrist(&pose, 0.1 * t, &about_x(0.2))
            })
            .collect();
        let mut frame = track[1].1;
        let mut previous = [0.0; 3];
        for k in 1..track.len() - 1 {
            let (force, rate) = sense([&track[k - 1], &track[k], &track[k + 1]]);
            if k > 1 {
                // Half of this step's rate and half of the one before, as small turns about the axes.
                let [x, y, z] = [0, 1, 2].map(|i| 0.5 * (rate[i] + previous[i]) * DT);
                frame = product(
                    &frame,
                    &product(&about_x(x), &product(&about_y(y), &about_z(z))),
                );
            }
            previous = rate;
            let down = apply(&transposed(&track[k].1), [0.0, 0.0, GRAVITY]);
            for i in 0..3 {
                assert!((force[i] - down[i]).abs() < 0.5, "{force:?} {down:?}");
            }
        }
        let last = &track[track.len() - 2].1;
        let off = (0..3).flat_map(|i| (0..3).map(move |j| (i, j)));
        let off = off.fold(0.0f64, |m, (i, j)| m.max((frame[i][j] - last[i][j]).abs()));
        assert!(off < 1e-3, "{off} after 10 s");
    }

    #[test]
    fn every_class_and_transitions_occur() {
        let data = small();
        let mut seen = [0usize; CLASSES.len()];
        let mut none = 0;
        for n in 0..data.sequences.len() {
            for t in 0..data.steps(n) {
                match seen.get_mut(usize::from(data.label(n, t))) {
                    Some(count) => *count += 1,
                    None => none += 1,
                }
            }
        }
        assert!(seen.iter().all(|&n| n > 200), "{seen:?}");
        assert!(
            (300..1500).contains(&none),
            "{none} of 9000 steps are transitions"
        );
    }
}
