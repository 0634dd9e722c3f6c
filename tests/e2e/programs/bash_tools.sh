set -euo pipefail
trap 'echo "bye $?"' EXIT
cat >people.csv <<'END'
name,town,age
ana,Ulm,31
bo,Bonn,25
cy,Ulm,47
dee,Bonn,19
END
tail -n +2 people.csv | sort -t, -k3,3nr | head -n 2 | cut -d, -f1 | paste -sd' '
awk -F, 'NR > 1 { n[$2] += $3 } END { for (t in n) print t, n[t] }' people.csv | sort
sed -E 's/([a-z]+),(.*)/\2;\1/' people.csv | sed -n '2p;$p'
grep -c Ulm people.csv
grep -oE '[0-9]+' people.csv | tr '\n' '+' | sed 's/+$/\n/' | { read -r sum; echo $((sum)); }
mkdir -p tree/{a,b}/c
touch tree/a/1.txt tree/b/2.txt tree/b/c/3.log
find tree -name '*.txt' -print0 | sort -z | xargs -0 -n1 basename
find tree -type f -exec sh -c 'echo "${1##*.}"' _ {} \; | sort | uniq -c | awk '{ print $2 "=" $1 }'
tar czf tree.tar.gz tree && rm -r tree && tar xzf tree.tar.gz && find tree | wc -l
gzip -k people.csv && zcat people.csv.gz | cmp - people.csv && echo same
md5sum <people.csv | cut -c1-8
declare -A ages=([ana]=31 [bo]=25)
list=(one "two words" three)
echo "${#list[@]} ${list[1]} ${ages[bo]} ${list[*]:1:2}"
for i in 3 1 2; do (sleep 0.0$i; echo "$i" >"done.$i") & done
wait
echo done.*
coproc UP { tr a-z A-Z; }
echo shout >&"${UP[1]}"
exec {UP[1]}>&-
cat <&"${UP[0]}"
wait
diff <(printf '1\n2\n') <(printf '1\n3\n') || echo "differs $?"
while IFS=, read -r name _ age; do [[ $age =~ ^4 ]] && echo "$name is $age"; done <people.csv || true
x=$(cat <<<"here string"); echo "${x^^} ${x/string/doc} ${#x}"
trap 'echo caught' USR1; kill -USR1 $$
(ulimit -c 0; ulimit -n)
{ echo out; echo err >&2; } 2>&1 | sort
mkfifo pipe; (echo through >pipe) & cat pipe; wait
timeout 0.05 sleep 30 || echo "timeout $?"
seq 100 | split -l 30 - part. && ls part.* | wc -l
date -u -d @0 +%F; TZ=Europe/Madrid date -d @0 +%H
printf 'b\na\n' | tee copy | sort >sorted; join sorted <(sort copy)
stat -c %s people.csv; du -k people.csv | cut -f2; df /tmp >/dev/null && echo df
env -i sh -c 'echo "${HOME-none}"'
[[ -t 0 ]] || echo "no terminal"
echo "$(whoami) $(id -u) $(hostname) $PWD"
exit 0
