//! The structure of the code: which room of the gateway imports which, and that no files import each other in
//! a circle.

#[path = "../../common/tests/architecture/imports.rs"]
mod imports;

use self::imports::{assert_no_circles, assert_rooms_import_only_lower_ones, files};

const SOURCES: &str = "gateway_api/src";

/// The rooms and the files beside them, from the lowest up: each imports only those before it.
const ROOMS: [&str; 12] = [
    "page_problem",
    "access",
    "upstream",
    "events",
    "docs",
    "web",
    "config",
    "state",
    "routes",
    "permissions",
    "readiness",
    "router",
];

#[test]
fn a_room_of_the_gateway_imports_only_rooms_below_it() {
    assert_rooms_import_only_lower_ones(&ROOMS, &files(SOURCES));
}

#[test]
fn no_files_of_the_gateway_import_each_other_in_a_circle() {
    assert_no_circles(&files(SOURCES));
}

#[test]
fn one_file_decides_between_html_and_json() {
    for file in files(SOURCES).values() {
        let is_its_place =
            ["web/render.rs", "web/negotiate.rs"].iter().any(|it| file.path.ends_with(it));
        assert!(
            is_its_place || !file.code.contains("wants_html"),
            "{}: take a web::render::Representation as an argument, or return a PageProblem",
            file.path.display()
        );
    }
}
