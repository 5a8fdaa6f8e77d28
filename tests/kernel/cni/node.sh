# A node in miniature: a runtime that adds 20 sandboxes at once with the reference bridge plugin, and then deletes
# them at once. Run by bash in network and mount namespaces of its own: `node.sh FOLDER MARK`.
set -e
mkdir -p /run/netns
mount -t tmpfs none /run/netns
ip link set lo up
for i in $(seq 0 19); do ip netns add "n$i"; done
config='{"cniVersion":"1.0.0","name":"slowpod-test","type":"bridge","bridge":"cnitest0","isGateway":true,
  "ipam":{"type":"host-local","dataDir":"'$1'","ranges":[[{"subnet":"10.87.0.0/16"}]]}}'
call() {
  export CNI_CONTAINERID="$2-$4" CNI_NETNS="/run/netns/n$4" CNI_IFNAME=eth0 CNI_PATH=/usr/lib/cni
  export CNI_ARGS="IgnoreUnknown=1;K8S_POD_UID=$2-$4;K8S_POD_NAME=web-$4;K8S_POD_NAMESPACE=default"
  printf '%s' "$config" | CNI_COMMAND=$3 /usr/lib/cni/bridge > "$1/$3.$4"
}
for command in ADD DEL; do
  calls=()
  for i in $(seq 0 19); do call "$1" "$2" "$command" "$i" & calls+=($!); done
  for one in "${calls[@]}"; do wait "$one"; done
done
