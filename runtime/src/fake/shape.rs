//! How the records of each subject look, and what they remember from one to the next.

use std::io::Write;

use chrono::DateTime;

use super::Subject;
use super::dice::Dice;
use super::text::{UNITS, push_int, push_units};

/// A subject with its state.
pub(super) enum Shape {
    /// Prices by name, in units.
    RealStock([i64; COINS.len()]),
    /// The next order's number.
    Pizza(i64),
    UserBehaviour,
    Bet,
    Stock([Share; COMPANIES.len()]),
    Metric,
}

/// A share's price in units, and its chance to rise, in 256ths.
#[derive(Clone, Copy)]
pub(super) struct Share {
    price: i64,
    rise: u32,
}

/// Where the field is that a subject's consumers can't do without; never a value's first field.
#[derive(Clone, Copy)]
pub(super) struct Vital {
    /// Of the comma before the field.
    pub(super) comma: usize,
    /// Of the field's value.
    pub(super) value: usize,
    /// After the field's value.
    pub(super) end: usize,
}

impl Shape {
    pub(super) fn new(subject: Subject) -> Shape {
        match subject {
            Subject::RealStock => Shape::RealStock(COINS.map(|(_, price)| price)),
            Subject::Pizza => Shape::Pizza(0),
            Subject::UserBehaviour => Shape::UserBehaviour,
            Subject::Bet => Shape::Bet,
            Subject::Stock => Shape::Stock(COMPANIES.map(|(_, dollars)| Share {
                price: dollars * UNITS,
                rise: 128,
            })),
            Subject::Metric => Shape::Metric,
        }
    }

    /// Appends the next record at `time` (milliseconds since 1970-01-01T00:00:00Z).
    pub(super) fn write(
        &mut self,
        dice: &mut Dice,
        time: i64,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> Vital {
        match self {
            Shape::RealStock(prices) => {
                let coin = dice.index(COINS.len());
                let (name, first) = COINS[coin];
                walk(&mut prices[coin], first, dice);
                put(key, &["{\"stock_name\":\"", name, "\"}"]);
                stock(value, name, prices[coin], time)
            }
            Shape::Stock(shares) => {
                let company = dice.index(COMPANIES.len());
                let (name, first) = COMPANIES[company];
                trend(&mut shares[company], first * UNITS, dice);
                put(key, &["{\"user\":\"all_users\"}"]);
                stock(value, name, shares[company].price, time)
            }
            Shape::Pizza(order) => {
                let id = *order;
                *order = order.wrapping_add(1);
                pizza(id, dice, time, key, value)
            }
            Shape::UserBehaviour => user_behaviour(dice, time, key, value),
            Shape::Bet => bet(dice, key, value),
            Shape::Metric => metric(dice, time, key, value),
        }
    }
}

/// Moves a price by up to 1/2048 of itself, and keeps it between half and twice the first one.
fn walk(price: &mut i64, first: i64, dice: &mut Dice) {
    let most = (*price / 2048).max(1);
    let step = i64::from(dice.below(2 * most as u32 + 1)) - most;
    *price = (*price + step).clamp(first / 2, first * 2);
}

/// Moves a share's price by less than 0.8 dollars in the direction that it's inclined to, and changes its
/// inclination now and then.
fn trend(share: &mut Share, first: i64, dice: &mut Dice) {
    if dice.below(5) == 0 {
        share.rise = dice.below(257);
    }
    let step = i64::from(dice.below(UNITS as u32 * 4 / 5));
    let step = if dice.below(256) < share.rise {
        step
    } else {
        -step
    };
    share.price = (share.price + step).clamp(first / 2, first * 2);
}

fn stock(value: &mut Vec<u8>, name: &str, price: i64, time: i64) -> Vital {
    put(value, &["{\"stock_name\":\"", name, "\",\"stock_value\":"]);
    push_units(value, price);
    last_time(value, "timestamp", time)
}

fn pizza(id: i64, dice: &mut Dice, time: i64, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Vital {
    let shop = dice.pick(SHOPS);
    put(key, &["{\"shop\":\"", shop, "\"}"]);

    put(value, &["{\"id\":"]);
    push_int(value, id);
    let (first, last) = (dice.pick(FIRST_NAMES), dice.pick(LAST_NAMES));
    put(
        value,
        &[",\"shop\":\"", shop, "\",\"name\":\"", first, " ", last],
    );
    put(value, &["\",\"phoneNumber\":\"("]);
    push_int(value, i64::from(200 + dice.below(800)));
    put(value, &[")"]);
    push_int(value, i64::from(200 + dice.below(800)));
    put(value, &["-"]);
    push_int(value, i64::from(1000 + dice.below(9000)));
    put(value, &["\",\"address\":\""]);
    push_int(value, i64::from(1 + dice.below(9999)));
    let (street, town) = (dice.pick(STREETS), dice.pick(TOWNS));
    put(value, &[" ", street, "\\n", town, " "]);
    push_int(value, i64::from(10_000 + dice.below(90_000)));
    put(value, &["\",\"pizzas\":["]);
    for pizza in 0..1 + dice.below(10) {
        let comma = if pizza == 0 { "" } else { "," };
        put(value, &[comma, "{\"pizzaName\":\"", dice.pick(PIZZAS)]);
        put(value, &["\",\"additionalToppings\":["]);
        for topping in 0..dice.below(6) {
            let comma = if topping == 0 { "" } else { "," };
            put(value, &[comma, "\"", dice.pick(TOPPINGS), "\""]);
        }
        put(value, &["]}"]);
    }
    put(value, &["]"]);
    last_time(value, "timestamp", time)
}

fn user_behaviour(dice: &mut Dice, time: i64, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Vital {
    put(key, &["{\"user\":\"all_users\"}"]);

    put(value, &["{\"user_id\":"]);
    push_int(value, i64::from(1 + dice.below(9)));
    put(value, &[",\"item_id\":"]);
    push_int(value, i64::from(21 + dice.below(9)));
    let behaviour = dice.pick(&["view", "cart", "buy"]);
    put(value, &[",\"behavior\":\"", behaviour, "\",\"view_id\":"]);
    match behaviour {
        "view" => put(value, &[dice.pick(&["111", "222", "555"])]),
        _ => put(value, &["null"]),
    }
    put(value, &[",\"group_name\":\"", dice.pick(&["A", "B"]), "\""]);
    let comma = value.len();
    put(value, &[",\"occurred_at\":"]);
    let start = value.len();
    // Events arrive up to five seconds early or late.
    let jitter = i64::from(dice.below(11)) - 5;
    let time = DateTime::from_timestamp_millis(time.saturating_add(jitter * 1000));
    // Writing to a vector can't fail.
    let _ = write!(
        value,
        "\"{}\"",
        time.unwrap_or_default().format("%Y-%m-%d %H:%M:%S")
    );
    let end = value.len();
    put(value, &["}"]);
    Vital {
        comma,
        value: start,
        end,
    }
}

fn bet(dice: &mut Dice, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Vital {
    let [category, subcategory, name] = EVENTS[dice.index(EVENTS.len())];
    put(key, &["{\"event\":\"", name, "\"}"]);

    put(value, &["{\"username\":\"", dice.pick(USERS)]);
    put(value, &["\",\"event\":{\"category\":\"", category]);
    put(value, &["\",\"subcategory\":\"", subcategory]);
    put(value, &["\",\"name\":\"", name, "\"}"]);
    let comma = value.len();
    put(value, &[",\"amount\":"]);
    let start = value.len();
    // Many small bets and a few large ones, up to 1000.
    let most = 1 << dice.below(11);
    push_int(value, i64::from(1 + dice.below(most).min(999)));
    let end = value.len();
    put(value, &["}"]);
    Vital {
        comma,
        value: start,
        end,
    }
}

fn metric(dice: &mut Dice, time: i64, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Vital {
    let host = dice.pick(HOSTS);
    put(key, &["{\"hostname\":\"", host, "\"}"]);

    put(value, &["{\"hostname\":\"", host, "\",\"cpu\":\"cpu"]);
    push_int(value, i64::from(1 + dice.below(5)));
    put(value, &["\",\"usage\":"]);
    // 70 to 100 percent.
    push_units(value, 70 * UNITS + i64::from(dice.below(30 * UNITS as u32)));
    last_time(value, "occurred_at", time)
}

/// Appends the time as the last field, which is the vital one, and the closing brace.
fn last_time(value: &mut Vec<u8>, name: &str, time: i64) -> Vital {
    let comma = value.len();
    put(value, &[",\"", name, "\":"]);
    let start = value.len();
    push_int(value, time);
    let end = value.len();
    value.push(b'}');
    Vital {
        comma,
        value: start,
        end,
    }
}

fn put(out: &mut Vec<u8>, texts: &[&str]) {
    for text in texts {
        out.extend_from_slice(text.as_bytes());
    }
}

// The texts below stand inside JSON strings, so they're escaped where JSON needs it, and sometimes where it doesn't.

/// Names and first prices in units, about those of autumn 2021.
const COINS: [(&str, i64); 5] = [
    ("BTC-USD", 154_881_063),
    ("ETH-USD", 15_514_663),
    ("BNB-USD", 1_926_541),
    ("ADA-USD", 9_079),
    ("DOGE-USD", 971),
];

/// Names and first prices in dollars.
const COMPANIES: [(&str, i64); 7] = [
    ("Bean There", 10),
    ("Cod Almighty", 21),
    ("Wok & Roll", 20),
    ("Lord of the Fries", 12),
    ("Thyme Machine", 25),
    ("The Codfather", 26),
    ("Planet of the Grapes", 28),
];

const SHOPS: &[&str] = &[
    "Pizzeria Vesuvio",
    "Slice of Heaven",
    "The Rolling Scone",
    "Crust & Co",
    "Forno d'Oro",
    "Dough Re Mi",
];

const FIRST_NAMES: &[&str] = &[
    "Ada",
    "Bj\u{f6}rn",
    "Chiara",
    "Dmitri",
    "Edsger",
    "Grace",
    "Jos\\u00e9",
    "Lin",
    "Noor",
    "Zo\u{eb}",
];

const LAST_NAMES: &[&str] = &[
    "Almeida",
    "Bianchi",
    "Hopper",
    "Kowalski",
    "Lovelace",
    "M\u{fc}ller",
    "O'Brien",
    "Okafor",
    "\u{5c71}\u{7530}",
];

const STREETS: &[&str] = &[
    "Mill Lane",
    "Harbour View Apt. 7",
    "Station Road",
    "Weir Street",
    "Old Market Suite 938",
    "Chestnut Avenue",
];

const TOWNS: &[&str] = &[
    "Ryeford, PA",
    "Nether Wallop, TX",
    "East Haven, WY",
    "Lakeside, OR",
];

const PIZZAS: &[&str] = &[
    "Margherita",
    "Marinara",
    "Diavola",
    "Capricciosa",
    "Quattro Formaggi",
    "Funghi",
];

const TOPPINGS: &[&str] = &[
    "tomato",
    "mozzarella",
    "gorgonzola",
    "salami",
    "jalape\\u00f1os",
    "ham",
    "olives",
    "anchovies",
    "artichokes",
    "garlic",
    "tuna",
    "onion",
    "pineapple",
    "\u{1f34c} banana",
];

const USERS: &[&str] = &[
    "luckystar",
    "the_banker",
    "odds_and_ends",
    "allin77",
    "northstand",
    "redcorner",
    "lastround",
    "half_time",
    "photo_finish",
    "underdog_9",
];

/// Category, subcategory and name.
const EVENTS: [[&str; 3]; 9] = [
    ["Sport", "Football", "Rovers vs Wanderers"],
    ["Sport", "Boxing", "Glass Jaw vs Iron Fist"],
    ["Sport", "Curling", "Norway vs Canada"],
    ["Sport", "Netball", "Perth vs Hobart"],
    ["Lottery", "Bingo", "Friday Night Bingo"],
    ["Lottery", "Numbers", "Six out of Forty-Nine"],
    ["Event", "Music", "A tuba solo tops the charts"],
    ["Event", "Politics", "A cat is elected mayor"],
    ["Event", "Celebrities", "The \\\"wedding\\\" of the year"],
];

const HOSTS: &[&str] = &["oak", "ash", "elm", "birch", "hazel", "rowan", "willow"];
