# Completion of snoop for bash. Made by `make docs`.

_snoop() {
	local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} flags
	case "$command $before" in
	*" -buffer") mapfile -t COMPREPLY < <(compgen -W "auto ring perf" -- "$word") && return ;;
	*" -hooks") mapfile -t COMPREPLY < <(compgen -W "auto resolver syscall" -- "$word") && return ;;
	*" -log-level") mapfile -t COMPREPLY < <(compgen -W "debug info warn error" -- "$word") && return ;;
	"closure -format") mapfile -t COMPREPLY < <(compgen -W "paths absolute" -- "$word") && return ;;
	"export -format") mapfile -t COMPREPLY < <(compgen -W "estargz nydus nydus-v1 soci overlaybd paths creport kubescape intoto dockerfile apparmor" -- "$word") && return ;;
	*" -cgroup" | *" -cgroups" | *" -namespaces" | *" -not-namespaces" | *" -pods" | *" -images" | *" -max-bytes" | *" -known" | *" -max-series" | *" -interval" | *" -exclude" | *" -max-unique-files" | *" -metrics-addr" | *" -container-id" | *" -image" | *" -image-digest" | *" -pod-name" | *" -namespace" | *" -labels" | *" -kinds" | *" -tag" | *" -platform" | *" -keep" | *" -max-size" | *" -depth") return ;;
	*" -root") mapfile -t COMPREPLY < <(compgen -d -- "$word") && return ;;
	*" -report") mapfile -t COMPREPLY < <(compgen -f -- "$word") && return ;;
	esac
	case $command in
	run) flags="-report -resume -interval -exclude -max-unique-files -buffer -hooks -metrics-addr -log-level -quiet -container-id -image -image-digest -pod-name -namespace -labels" ;;
	node) flags="-cgroup -namespaces -not-namespaces -pods -images -reports -max-bytes -host -known -max-series -interval -exclude -max-unique-files -buffer -hooks -metrics-addr -log-level" ;;
	health) flags="-metrics-addr" ;;
	closure) flags="-root -kinds -0 -format -runtime" ;;
	unused) flags="-root -kinds -paths -json" ;;
	slim) flags="-o -tag -image -platform -keep -keep-from -kinds -incomplete -any-image -squash -max-size -sbom -json" ;;
	merge) flags="-o -any-image" ;;
	diff) flags="-json" ;;
	export) flags="-format -root -o -any-image" ;;
	show) flags="-root -html -depth" ;;
	check) flags= ;;
	help) mapfile -t COMPREPLY < <(compgen -W "run node check health closure unused slim merge diff export show help" -- "$word") && return ;;
	*) flags="-cgroup -cgroups -report -resume -interval -exclude -max-unique-files -buffer -hooks -metrics-addr -log-level -container-id -image -image-digest -pod-name -namespace -labels" ;;
	esac
	case $word in
	-*) mapfile -t COMPREPLY < <(compgen -W "$flags -help -version" -- "$word") ;;
	*)
		if [ "$COMP_CWORD" = 1 ]; then
			mapfile -t COMPREPLY < <(compgen -W "run node check health closure unused slim merge diff export show help" -- "$word")
		elif [ "$command" = run ]; then
			mapfile -t COMPREPLY < <(compgen -c -f -- "$word")
		else
			mapfile -t COMPREPLY < <(compgen -f -- "$word")
		fi
		;;
	esac
}
complete -F _snoop snoop
