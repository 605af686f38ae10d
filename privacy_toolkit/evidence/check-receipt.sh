#!/bin/sh
# Checks a receipt of privacy-toolkit with nothing but openssl and the standard tools of POSIX.
#
#     sh check-receipt.sh ID-FILE [ALLOWED-SIGNERS NAME]
#
# ID-FILE holds your customer id and nothing else; one line end after it does not count. With ALLOWED-SIGNERS (the
# signer's public key, as ssh-keygen wants it) and NAME (under which it stands there) the signature is checked as well.
# Exit code: 0 if everything fits, 1 if anything does not, 2 if it could not be checked.
#
# Whatever stands in the files is data here: it is compared, hashed or printed with %s, never run.

LC_ALL=C
export LC_ALL
unset IFS

wrong() {
    printf 'NOT VALID: %s\n' "$1" >&2
    exit 1
}

unable() {
    printf 'Could not be checked: %s\n' "$1" >&2
    exit 2
}

case $# in
1 | 3) ;;
*) unable 'call it so: sh check-receipt.sh ID-FILE [ALLOWED-SIGNERS NAME]' ;;
esac
command -v openssl >/dev/null 2>&1 || unable 'the program openssl is missing'
case $0 in
*/*) folder=${0%/*} ;;
*) folder=. ;;
esac
for name in "$1" "$folder/receipt.txt" "$folder/checkpoint.txt" "$folder/SHA256SUMS"; do
    { [ -f "$name" ] && [ -r "$name" ]; } || unable "there is no file $name that can be read"
done
newline='
'
carriage=$(printf '\r')
mark=$(printf '\357\273\277')

# Nothing but printable ASCII and line ends: nothing hidden, and nothing that steers a terminal.
plain() {
    [ "$(tr -d '\012\040-\176' <"$folder/$1" | wc -c)" -eq 0 ] || wrong "$1 has characters that it can't have"
}
plain receipt.txt
plain checkpoint.txt
plain SHA256SUMS

# The next line of file 3 has to begin with $1 and a blank; the rest of it goes into $value.
take() {
    IFS= read -r line <&3 || wrong "$2 is not complete"
    case $line in
    "$1 "?*) value=${line#"$1 "} ;;
    *) wrong "$2 is not as it was written: a line should begin with $1" ;;
    esac
}

# A whole number without needless zeros, small enough for the shell to count with.
number() {
    case $1 in
    '' | *[!0-9]* | 0?* | ????????????????*) wrong "$2 is no number" ;;
    esac
}

# 32 bytes in base64; the last digit before the = has two spare bits, which have to be 0.
is_hash() {
    case $1 in
    *[!0-9A-Za-z+/=]* | *=?*) wrong "$2 is no hash" ;;
    *[AEIMQUYcgkosw048]=) [ ${#1} -eq 44 ] || wrong "$2 is no hash" ;;
    *) wrong "$2 is no hash" ;;
    esac
}

bytes() { printf '%s' "$1" | openssl base64 -d -A; }
digest() { openssl dgst -sha256 -binary | openssl base64 -A; }
node() { { printf '\001' && bytes "$1" && bytes "$2"; } | digest; }
hex() { sed -e 's/^.*= *//' -e 's/ .*$//'; }

# 1. What the checkpoint says.
exec 3<"$folder/checkpoint.txt"
{ IFS= read -r origin && IFS= read -r size && IFS= read -r root; } <&3 || wrong 'checkpoint.txt is not complete'
number "$size" 'the size in checkpoint.txt'
is_hash "$root" 'the root in checkpoint.txt'
take run checkpoint.txt
run=$value
case $run in
*[!0-9A-Za-z._-]*) wrong 'checkpoint.txt names a run that can not be one' ;;
esac
exec 3<&-

# 2. What the receipt says. It has to be of the same run and the same pack.
exec 3<"$folder/receipt.txt"
IFS= read -r line <&3 || line=
[ "$line" = 'privacy-toolkit receipt v1' ] || wrong 'receipt.txt is no receipt of this kind'
take run receipt.txt
[ "$value" = "$run" ] || wrong 'the receipt and checkpoint.txt are of different runs'
take origin receipt.txt
[ "$value" = "$origin" ] || wrong 'the receipt and checkpoint.txt are of different chains of packs'
take index receipt.txt
index=$value
number "$index" 'the index'
take size receipt.txt
[ "$value" = "$size" ] || wrong 'the receipt and checkpoint.txt name different sizes'
[ "$index" -lt "$size" ] || wrong 'there is no such row: the index is not below the size'
take key receipt.txt
key=$value
case $key in
*[!0-9a-f]*) wrong 'the key is none' ;;
esac
[ ${#key} -eq 64 ] || wrong 'the key is none'
take row receipt.txt
row=$value

# 3. The row is yours: its subject is HMAC-SHA256(key, id).
[ "$(tr -d '\000' <"$1" | wc -c)" -eq "$(wc -c <"$1")" ] || wrong 'the file with the id has characters that no id has'
id=$(cat <"$1" && printf x) || unable 'the file with the id can not be read'
id=${id%x}
case $id in
*"$newline") id=${id%"$newline"} id=${id%"$carriage"} ;;
esac
case $id in # a byte order mark, as some editors put it in front
"$mark"?*) id=${id#"$mark"} ;;
esac
subject=${row##*',"subject":"'}
subject=${subject%%\"*}
# The key has to be an argument of openssl; it is that of this receipt and opens nothing but this row.
mine=$(printf '%s' "$id" | openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" | hex)
[ ${#mine} -eq 64 ] || unable 'openssl does not know HMAC'
[ "$mine" = "$subject" ] || wrong 'the row is not that of this id, or key, row or id were changed'

# 4. The row is in the pack: row and path lead to the root (RFC 9162, section 2.1.3.2).
got=$({ printf '\000' && printf '%s' "$row"; } | digest)
at=$index last=$((size - 1))
while IFS= read -r line <&3; do
    case $line in
    'path '?*) step=${line#'path '} ;;
    *) wrong 'receipt.txt has a line that does not belong there' ;;
    esac
    is_hash "$step" 'a step of the path'
    [ "$last" -gt 0 ] || wrong 'the path is too long'
    if [ $((at & 1)) -eq 1 ] || [ "$at" -eq "$last" ]; then
        got=$(node "$step" "$got")
        while [ "$at" -gt 0 ] && [ $((at & 1)) -eq 0 ]; do
            at=$((at >> 1)) last=$((last >> 1))
        done
    else
        got=$(node "$got" "$step")
    fi
    at=$((at >> 1)) last=$((last >> 1))
done
[ -z "$line" ] || wrong 'receipt.txt does not end where it should'
exec 3<&-
[ "$last" -eq 0 ] || wrong 'the path is too short'
[ "$got" = "$root" ] || wrong 'row and path do not lead to the root in checkpoint.txt'

# 5. The checkpoint is the one that SHA256SUMS names, once.
sum=$(openssl dgst -sha256 <"$folder/checkpoint.txt" | hex)
[ "$(grep -c '^[0-9a-f]\{64\}  checkpoint\.txt$' <"$folder/SHA256SUMS")" -eq 1 ] ||
    wrong 'SHA256SUMS does not name checkpoint.txt exactly once'
grep -Fqx "$sum  checkpoint.txt" <"$folder/SHA256SUMS" || wrong 'checkpoint.txt is not the one that SHA256SUMS names'

# 6. The signature, if there is something to check it with.
signature=$folder/SHA256SUMS.sig
signed=
if [ $# -eq 3 ]; then
    [ -f "$signature" ] || wrong 'the pack is not signed: there is no SHA256SUMS.sig'
    command -v ssh-keygen >/dev/null 2>&1 || unable 'the program ssh-keygen is missing'
    ssh-keygen -Y verify -f "$2" -I "$3" -n privacy-toolkit-audit-pack@v1 -s "$signature" <"$folder/SHA256SUMS" >&2 ||
        wrong 'the signature of SHA256SUMS is not good, or not by that name'
    signed=yes
fi

outcome=${row##*',"outcome":"'}
outcome=${outcome%%\"*}
case $outcome in
erased) says='Erased: a profile was found, its erasure was requested, and a later read showed no attributes any more' ;;
nothing_held) says='Nothing held: the API answered that it has no such profile, so nothing was sent' ;;
on_hold) says='On hold: nothing was sent, on a ground that the row names' ;;
done) says='Done: the request was carried out, and the API said so' ;;
failed) says='Failed: it was not done, the API refused for good' ;;
unverified) says='Not verified: the API accepted the request, but no later read has shown its effect yet' ;;
residual) says='Data still visible: the API accepted the request, but a later read still showed data' ;;
retryable) says='Not done yet: the request never reached the API, or was refused for the moment' ;;
unknown) says='Unknown: a request was sent, or may have been, and no reliable answer came back' ;;
pending) says='Not started: the run ended before it came to this row' ;;
reappeared) says='Reappeared: it was erased, but a later read showed data again' ;;
*) says='The row has an outcome that this script has no words for; read it in receipt.txt' ;;
esac
moment=${row##*',"settled_at":"'}
moment=${moment%%\"*}
case $moment in
[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9].*Z)
    clock=${moment#*T}
    when=" This was noted on ${moment%%T*} at ${clock%%.*} UTC, by the clock of the one who made the pack."
    ;;
*) when= ;;
esac

printf 'Valid: this row is yours. It is row %s of the %s in the pack of run %s.\n' "$((index + 1))" "$size" "$run"
printf 'It says: %s.%s\n' "$says" "$when"
if [ -n "$signed" ]; then
    printf '%s\n' 'The signature of the pack is good.'
elif [ -f "$signature" ]; then
    printf '%s\n' 'The signature of the pack was not checked. To do so, get the public key of the signer by another' \
        'way than this folder, put it into a file allowed_signers with the name of the signer, and run here:' \
        "  ssh-keygen -Y verify -f allowed_signers -I NAME \\" \
        '    -n privacy-toolkit-audit-pack@v1 -s SHA256SUMS.sig < SHA256SUMS'
else
    printf '%s\n' 'The pack is not signed: nobody answers for it with a key.'
fi
