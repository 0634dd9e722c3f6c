# A quick script. The sandbox has no network, a home of its own and little else.
echo "hello from $(hostname), as $(id -un 2>/dev/null || id -u)"
echo "home: $HOME, working in $(pwd)"
for i in 1 2 3; do
    echo "step $i of 3"
done
echo 'this line went to stderr' >&2
