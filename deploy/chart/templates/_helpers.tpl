{{/*
The chart has no manifests of its own: those in files/ are links to what `kubectl apply -k` uses too. What the values change is
replaced in them.
*/}}

{{/* snoop.values: sets what the values say in a container, given as a list of the chart's context, the container and its resources. */}}
{{- define "snoop.values" -}}
{{- $root := index . 0 -}}
{{- $container := index . 1 -}}
{{- $_ := set $container "image" $root.Values.image -}}
{{- with index . 2 -}}
{{- $_ := set $container "resources" . -}}
{{- end -}}
{{- with $root.Values.seLinuxOptions -}}
{{- $_ := set $container.securityContext "seLinuxOptions" . -}}
{{- end -}}
{{- end -}}

{{/*
snoop.sidecar and snoop.volumes: entries for the initContainers and the volumes of a pod in your own chart, which has this chart
as a dependency (with node.enabled: false):

      initContainers:
        {{- include "snoop.sidecar" .Subcharts.snoop | nindent 8 }}
      volumes:
        {{- include "snoop.volumes" .Subcharts.snoop | nindent 8 }}
*/}}
{{- define "snoop.sidecar" -}}
{{- $spec := (.Files.Get "files/sidecar.yaml" | fromYaml).spec.template.spec -}}
{{- $_ := include "snoop.values" (list . (first $spec.initContainers) .Values.sidecar.resources) -}}
{{- toYaml $spec.initContainers -}}
{{- end -}}

{{- define "snoop.volumes" -}}
{{- toYaml (.Files.Get "files/sidecar.yaml" | fromYaml).spec.template.spec.volumes -}}
{{- end -}}
