# Builder of a toplevel: the files that a NixOS toplevel has. $settings is the host's folder of plain files:
# `version` is what hello answers; `kernel` (optional) is a change that needs a reboot; `break` (optional) names what shall go wrong, one word a line, to see Slipway cope:
#   hello         the hello unit fails to start          hello-http  it starts, but answers 404
#   network       the host is off the network            activation  the activation script fails
#   hang          the activation script hangs            boot-loader the boot loader cannot be installed
#   inhibit       a switch inhibitor changes             build       the build itself fails
set -eu
b=$busybox
broken() { [ -f $settings/break ] && $b grep -qx "$1" $settings/break; }

if broken build; then
  echo "compiling the kernel of $hostName"
  echo "error: hosts/$hostName/break asks for a failing build" >&2
  exit 1
fi

units=$out/etc/systemd/system
$b mkdir -p $out/bin $units/multi-user.target.wants $out/etc/slipway $out/kernel-modules/lib/modules/6.1.0-homelab
$b ln -s $systemPath $out/sw

printf '%s\n' "$hostName" >$out/etc/hostname
printf 'x86_64-linux' >$out/system
printf '26.05.homelab' >$out/nixos-version
printf 'systemd 2' >$out/init-interface-version
printf 'console=ttyS0' >$out/kernel-params
if broken inhibit; then printf '{"dbus-implementation":"broker"}' >$out/switch-inhibitors
else printf '{"dbus-implementation":"dbus"}' >$out/switch-inhibitors; fi
# A container boots its machine's kernel; these are there because tools compare them. A file `kernel` stands for another one.
if [ -f $settings/kernel ]; then $b cp $settings/kernel $out/kernel
else $b ln -s $tools/bin/busybox $out/kernel; fi
$b ln -s $tools/bin/busybox $out/initrd
[ -z "$agentConfig" ] || $b cp $agentConfig $out/etc/slipway/agent.toml

hello_secret() { printf '%s' "$secrets" | $b awk '$1 == "hello" { print $2 }'; }
hello_pre=
if broken hello; then hello_pre="ExecStartPre=$out/sw/bin/false"; fi
hello_args="8080 /run/agenix/hello"
# The unit listens, but the page is not there.
if broken hello-http; then hello_pre="ExecStartPost=$busybox rm -f /run/hello/index.html"; fi
# A changed secret restarts the service, as restartTriggers do on NixOS.
$b cat >$units/hello.service <<UNIT
[Unit]
Description=The service of this example
X-Restart-Triggers=$(hello_secret)

[Service]
Type=exec
$hello_pre
ExecStart=$hello/bin/hello $hello_args
UNIT
$b ln -s ../hello.service $units/multi-user.target.wants/hello.service

link=up
if broken network; then link=down; fi
$b cat >$units/network-link.service <<UNIT
[Unit]
Description=The network link of this host

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=$busybox ip link set eth0 $link
UNIT
$b ln -s ../network-link.service $units/multi-user.target.wants/network-link.service

if [ -n "$agentConfig" ]; then
  # The agent runs the switch, so the switch must not restart the agent (restartIfChanged = false).
  $b cat >$units/slipway-agent.service <<UNIT
[Unit]
Description=Slipway agent
X-RestartIfChanged=false
After=network-link.service

[Service]
Type=notify
NotifyAccess=main
WatchdogSec=60
Environment=PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin:/run/current-system/sw/bin
Environment=HOME=/root
ExecStart=/opt/slipway/bin/slipway agent run --config /etc/slipway/agent.toml
Restart=on-failure
RestartSec=2
UNIT
  $b ln -s ../slipway-agent.service $units/multi-user.target.wants/slipway-agent.service
fi

activation_break=none
for word in activation hang; do if broken $word; then activation_break=$word; fi; done
boot_break=none
if broken boot-loader; then boot_break=boot-loader; fi
# The paths of the ciphertexts stand in the activation script, as agenix writes them.
printf '%s' "$secrets" | while read -r name file path mode owner group; do
  target="/run/agenix.d/\$generation/$name"
  echo "echo \"decrypting '$file' to '$target'...\""
  echo "(umask u=r,g=,o=; age --decrypt \$keys -o \"$target.tmp\" \"$file\") && finish_secret \"$target\" $path $mode $owner:$group || ok=1"
done >install-secrets
install_script() {
  $b sed -e '/@installSecrets@/{r install-secrets' -e 'd}' -e "s|@out@|$out|g" -e "s|@busybox@|$busybox|g" -e "s|@identities@|$identities|g" -e "s|@break@|$3|g" $1 >$2
  $b chmod +x $2
}
install_script $activate $out/activate $activation_break
install_script $switchToConfiguration $out/bin/switch-to-configuration $boot_break
$b printf '#!%s sh\necho "would activate the configuration..."\n' $busybox >$out/dry-activate
$b chmod +x $out/dry-activate
