//! Which names announce a secret: `--password`, `DB_PASSWD`, `clientSecret`, `X-Api-Key`.

use crate::enrich::text::is_listed;

/// Endings that make a part of a name secret whatever stands before them (`PGPASSWORD`, `authtoken`).
const SECRET_ENDINGS: [&[u8]; 10] = [
    b"password",
    b"passwd",
    b"passphrase",
    b"secret",
    b"token",
    b"apikey",
    b"accesskey",
    b"privatekey",
    b"credential",
    b"sessionid",
];
/// What a key must open to be secret: `access key`, but not `registry key`.
const KEY_OWNERS: &str = "\
    access account api app auth encryption license master preshared private secret shared signing \
    storage subscription unseal";
/// Last parts that say the value is only about the secret: where it lies, how long it lasts.
const ABOUT: &str = "\
    account addr address alg algorithm audience audiences ca cache cert class config count dir duration \
    enabled endpoint expiration file files format hash host interval issuer kind kubeconfig length level \
    method mode mount name names namespace path paths plugin plugins policy port provider realm ref server \
    service size sock socket timeout ttl type uri url user username version webhook";
/// Longest name looked at, in bytes. Names of options and variables are shorter.
const NAME_BYTES: usize = 96;
/// Most parts looked at in a name.
const PARTS: usize = 12;

/// Whether the value of a name is a secret. The name comes without dashes in front.
pub(super) fn is_secret(name: &[u8]) -> bool {
    if name.len() > NAME_BYTES || !name.is_ascii() {
        return false;
    }
    let mut buffer = [0; NAME_BYTES];
    let lower = &mut buffer[..name.len()];
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();

    let mut parts: [&[u8]; PARTS] = [b""; PARTS];
    let mut count = 0;
    let mut start = 0;
    for at in 0..=name.len() {
        let boundary = at == name.len() || !name[at].is_ascii_alphanumeric();
        // clientSecret: a capital after a small letter begins a part.
        let hump =
            !boundary && at > start && name[at].is_ascii_uppercase() && name[at - 1].is_ascii_lowercase();
        if !boundary && !hump {
            continue;
        }
        if at > start && count < PARTS {
            parts[count] = &lower[start..at];
            count += 1;
        }
        start = if hump { at } else { at + 1 };
    }
    secret_parts(&parts[..count])
}

fn secret_parts(parts: &[&[u8]]) -> bool {
    let keyed = |pair: &[&[u8]]| matches!(pair[1], b"key" | b"keys") && is_listed(KEY_OWNERS, pair[0]);
    let secret = parts.iter().any(|part| is_secret_part(part))
        || parts.windows(2).any(keyed)
        || parts == [b"from" as &[u8], b"literal"];
    secret && parts.last().is_some_and(|last| !is_listed(ABOUT, last))
}

/// Whether one part of a name is enough to make it secret.
fn is_secret_part(part: &[u8]) -> bool {
    // password1, tokens
    let digits = part.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let stem = &part[..part.len() - digits];
    let single = stem.strip_suffix(b"s").unwrap_or(stem);
    is_secret_word(stem)
        || is_secret_word(single)
        || SECRET_ENDINGS.iter().any(|ending| single.ends_with(ending))
}

/// Parts that are secret as they stand; as an ending they mean nothing (`bypass`, `compass`).
fn is_secret_word(part: &[u8]) -> bool {
    let words = "\
        auth oauth authorization bearer cookie cred jwt psk pass pwd pw passcode passin passout requirepass \
        masterauth";
    is_listed(words, part)
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn names_of_secrets() {
        let names = "\
            password PASSWORD passwd pwd DB_PASSWORD PGPASSWORD MYSQL_PWD clientSecret client-secret \
            token access_token authToken api-key apikey X-Api-Key AWS_SECRET_ACCESS_KEY \
            AWS_ACCESS_KEY_ID Authorization auth secret-id password1 tokens bootstrap-token \
            private-key from-literal auth.password spring.datasource.password passin Cookie \
            requirepass.password privateKey";
        for name in names.split(' ') {
            assert!(is_secret(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn names_of_other_things() {
        let names = "\
            - comment password-file token-auth-file authorization-mode token-ttl key author authority \
            tokenizer secretary log root id compass bypass keys tls-private-key-file \
            authentication-kubeconfig pass-through-mode SECRET_NAME keyring service-account-issuer \
            monkey registry-key";
        for name in names.split(' ') {
            assert!(!is_secret(name.as_bytes()), "{name}");
        }
        assert!(!is_secret(b""));
        assert!(!is_secret(&[b'x'; 4096]));
        assert!(!is_secret("pässword".as_bytes()));
    }
}
