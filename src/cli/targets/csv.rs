//! A table (RFC 4180) with a line of names on top: name, address, labels, logins, host_key, in any order.

use super::entry::{Host, Read};
use crate::config::key::parse_public_key;

const COLUMNS: [&str; 5] = ["name", "address", "labels", "logins", "host_key"];

pub fn read(text: &str) -> Result<Read, String> {
    let mut rows = rows(text)?.into_iter();
    let (_, header) = rows.next().ok_or_else(|| format!("it is empty; its first line is {}", COLUMNS.join(",")))?;
    let header: Vec<String> = header.iter().map(|name| name.trim().to_ascii_lowercase()).collect();
    if let Some(unknown) = header.iter().find(|name| !COLUMNS.contains(&name.as_str())) {
        return Err(format!("there is no column {unknown:?}; known are {}", COLUMNS.join(", ")));
    }
    if !header.iter().any(|name| name == "name") {
        return Err("it has no column \"name\"".into());
    }
    let mut all = Read::default();
    for (line, cells) in rows {
        if cells.len() != header.len() {
            all.left_out.push(format!("line {line}: it has {} fields, the first line {}", cells.len(), header.len()));
            continue;
        }
        let cell = |column: &str| header.iter().zip(&cells).find(|(name, _)| *name == column).map_or("", |(_, cell)| cell.trim());
        let words =
            |column: &str| cell(column).split([' ', ';', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        if cell("name").is_empty() {
            all.left_out.push(format!("line {line}: it has no name"));
            continue;
        }
        let mut host = Host { labels: words("labels").into_iter().collect(), logins: words("logins"), ..Host::named(cell("name")) };
        host.address = Some(cell("address").to_owned()).filter(|address| !address.is_empty());
        let keys = cell("host_key").split(';').map(str::trim).filter(|key| !key.is_empty()).map(parse_public_key);
        match keys.collect::<Result<Vec<_>, _>>() {
            Ok(keys) => {
                keys.into_iter().for_each(|key| Host::knows(&mut host.keys, key));
                all.hosts.push(host);
            }
            Err(bad) => all.left_out.push(format!("line {line}: host_key: {bad}")),
        }
    }
    Ok(all)
}

/// Cuts the text into rows of fields, each with the line that it begins on; empty lines are none.
fn rows(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let (mut rows, mut row, mut field, mut quoted, mut began) = (Vec::new(), Vec::new(), String::new(), false, 1);
    let (mut line, mut chars) = (1, text.trim_start_matches('\u{feff}').chars().peekable());
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push((began, std::mem::take(&mut row)));
                began = line;
            }
            c => field.push(c),
        }
    }
    if quoted {
        return Err(format!("a quote that is opened in the row of line {began} is not closed"));
    }
    row.push(field);
    rows.push((began, row));
    rows.retain(|(_, row)| row.iter().any(|field| !field.is_empty()));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKSo1nQLcBr8uebNUaw4YpMsQtOzg9axUZBPMx+GmlMO";

    #[test]
    fn columns_stand_in_any_order_and_cells_may_be_quoted() {
        let text = format!(
            "\u{feff}host_key,name,labels,logins,address\r\n{KEY} root@x,Web-1,\"env=prod, a\"\"b\",deploy;root,10.0.0.5\r\n\n,db-1,,,\n"
        );
        let hosts = read(&text).unwrap().hosts;
        assert_eq!((hosts[0].name.as_str(), hosts[0].address.as_deref(), hosts[0].keys.len()), ("web-1", Some("10.0.0.5"), 1));
        assert_eq!(hosts[0].labels, ["env=prod".to_owned(), "a\"b".to_owned()].into());
        assert_eq!(hosts[0].logins, ["deploy", "root"]);
        assert_eq!((hosts[1].name.as_str(), hosts[1].keys.len()), ("db-1", 0));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        assert!(read("").unwrap_err().contains("name,address,labels,logins,host_key"));
        assert!(read("name,adress\n").unwrap_err().contains("\"adress\""));
        assert!(read("address\n10.0.0.5\n").unwrap_err().contains("\"name\""));
        assert!(read("name\n\"web-1\n").unwrap_err().contains("line 2"));
        let left_out = read("name,host_key\n\"a\nb\",x\nweb-1\n,y\nweb-2,ssh-ed25519 AAAA\n").unwrap().left_out;
        assert_eq!(left_out.iter().map(|why| &why[..7]).collect::<Vec<_>>(), ["line 2:", "line 4:", "line 5:", "line 6:"]);
    }

    proptest! {
        #[test]
        fn no_table_makes_the_reader_panic(text in "(name|host_key|,|\"|\r|\n|a){0,30}") {
            let _ = read(&text);
        }
    }
}
