/** Words that people bring along from kubectl and that mean nothing here: what does the same in mctl. */

const answers =
  'one address answers for all models: `mctl get md` shows it as ENDPOINT, `mctl chat MODEL` talks through it'
const noShell = 'an engine has no shell to enter: `mctl logs SHARD` and `mctl describe shard SHARD` tell what it does'
const files = 'what is wanted stands in files: `mctl apply -f FILE`'

const commands: Readonly<Record<string, string>> = {
  exec: noShell,
  attach: noShell,
  debug: noShell,
  cp: noShell,
  'port-forward': answers,
  expose: answers,
  proxy: answers,
  run: files,
  create: files,
  replace: files,
  set: 'a field is changed with `mctl edit`, `mctl patch`, or in its file and `mctl apply -f FILE`',
  autoscale: 'replicas are set with `mctl scale md/NAME --replicas N`',
  kustomize: 'it is built outside: `kustomize build . | mctl apply -f -`',
  'cluster-info': '`mctl version` tells of the server, `mctl get nodes` of its Macs',
  auth: '`mctl user` says who may do what, `mctl config view` who you are to the server',
  certificate: 'Macs join with a token: `mctl join-token create`',
}

const deployment = 'a deployment of a model is a modeldeployment: `md`'
const shard = 'what runs is a shard, as a pod is in Kubernetes: `shards`'
const group = 'a replica is a shardgroup: `sg`'
const namespace = 'a namespace is there when something is in it: `-n NAME`, and -A for all of them'

const types: Readonly<Record<string, string>> = {
  ...Object.fromEntries(['deploy', 'deployment', 'deployments'].map((word) => [word, deployment])),
  ...Object.fromEntries(['po', 'pod', 'pods'].map((word) => [word, shard])),
  ...Object.fromEntries(
    ['rs', 'replicaset', 'replicasets', 'sts', 'statefulset', 'statefulsets', 'lws'].map((word) => [word, group]),
  ),
  ...Object.fromEntries(['ns', 'namespace', 'namespaces'].map((word) => [word, namespace])),
  ...Object.fromEntries(
    ['svc', 'service', 'services', 'ep', 'endpoints', 'ing', 'ingress', 'ingresses'].map((word) => [word, answers]),
  ),
}

/** A sentence; undefined for what is no habit. */
export const habitOfCommand = (word: string): string | undefined =>
  Object.hasOwn(commands, word) ? commands[word] : undefined
export const habitOfType = (word: string): string | undefined => {
  const type = word.toLowerCase()
  return Object.hasOwn(types, type) ? types[type] : undefined
}
