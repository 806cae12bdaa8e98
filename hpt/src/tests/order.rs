//! The check of the order of locks fires, also where nobody holds the lock that is waited for.
#![cfg(debug_assertions)]

use crate::order::elsewhere;
use crate::{Hpte, Page, Reserve};

#[test]
fn the_order_itself_is_fine() {
    let (entries, pages) = ([Hpte::default(), Hpte::default()], [Page::default(), Page::default()]);
    let first = entries[0].lock().unwrap();
    let second = entries[1].try_lock().unwrap();
    let page = pages[0].lock().unwrap();
    let other = pages[1].try_lock().unwrap();
    pages[1].unlock(other);
    pages[0].unlock(page);
    entries[0].unlock(first);
    entries[1].unlock_value(second);
    // From a page on, entries are tried.
    let page = pages[0].lock().unwrap();
    let first = entries[0].try_lock().unwrap();
    entries[0].unlock(first);
    pages[0].unlock(page);
    entries[0].wait();
}

#[test]
fn the_reserve_comes_last() {
    let (entry, page, reserve) = (Hpte::default(), Page::default(), Reserve::default());
    entry.lock().unwrap();
    page.lock().unwrap();
    assert_eq!(reserve.locked(|| 5), Some(5));
    assert_eq!(reserve.locked(|| 6), Some(6), "it has been let go");
}

#[test]
#[should_panic(expected = "waits for Page and holds Reserve")]
fn a_page_is_not_waited_for_with_the_reserve_in_hand() {
    let (page, reserve) = (Page::default(), Reserve::default());
    reserve.locked(|| page.lock());
}

#[test]
#[should_panic(expected = "waits for Reserve and holds Reserve")]
fn nor_is_the_reserve() {
    let reserve = Reserve::default();
    reserve.locked(|| reserve.locked(|| ()));
}

#[test]
#[should_panic(expected = "waits for Entry and holds Page")]
fn an_entry_is_not_waited_for_with_a_page_in_hand() {
    let (entry, page) = (Hpte::default(), Page::default());
    page.lock().unwrap();
    entry.lock();
}

#[test]
#[should_panic(expected = "waits for Entry and holds Page")]
fn nor_is_its_unlocking() {
    let (entry, page) = (Hpte::default(), Page::default());
    page.try_lock().unwrap();
    entry.wait();
}

#[test]
#[should_panic(expected = "waits for Entry and holds Entry")]
fn a_second_entry_is_not_waited_for() {
    let entries = [Hpte::default(), Hpte::default()];
    entries[0].try_lock().unwrap();
    entries[1].lock();
}

#[test]
#[should_panic(expected = "waits for Page and holds Page")]
fn a_second_page_is_not_waited_for() {
    let pages = [Page::default(), Page::default()];
    pages[0].lock().unwrap();
    pages[1].lock();
}

#[test]
fn what_another_thread_holds_does_not_matter() {
    let (entry, page) = (Hpte::default(), Page::default());
    elsewhere(|| page.lock().unwrap());
    assert!(entry.lock().is_some());
}
