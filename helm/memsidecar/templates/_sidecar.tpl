{{/*
A native sidecar for a Pod of another chart, which has this one as a dependency with deployment.enabled=false:

  initContainers:
    - {{- include "memsidecar.sidecar" .Subcharts.memsidecar | nindent 6 }}
  volumes:
    {{- include "memsidecar.sidecar.volumes" .Subcharts.memsidecar | nindent 4 }}

The agent's container mounts {{ include "memsidecar.sidecar.socketMount" ... }} and talks to the address that
"memsidecar.sidecar.address" gives. It needs no preStop hook for its memory: what was acknowledged is durable.
*/}}
{{- define "memsidecar.sidecar" -}}
{{- include "memsidecar.requireAppSecret" . -}}
{{ include "memsidecar.container" (dict "root" . "listen" (include "memsidecar.sidecar.address" .)) }}
restartPolicy: Always
{{- end -}}

{{- define "memsidecar.sidecar.volumes" -}}
{{ include "memsidecar.containerVolumes" (dict "root" . "listen" (include "memsidecar.sidecar.address" .)) }}
{{- end -}}

{{- define "memsidecar.sidecar.address" -}}
{{- if eq .Values.sidecar.listen "socket" -}}
unix:/run/memsidecar/memsidecar.sock
{{- else -}}
127.0.0.1:{{ .Values.server.port }}
{{- end -}}
{{- end -}}

{{- define "memsidecar.sidecar.socketMount" -}}
name: memsidecar-socket
mountPath: /run/memsidecar
{{- end -}}
