# Builder of the hello service: a script that says who it is, and proves that it can read its secret without telling it.
$busybox mkdir -p $out/bin
$busybox sed -e "s|@busybox@|$busybox|g" -e "s|@version@|$version|g" $script >$out/bin/hello
$busybox chmod +x $out/bin/hello
