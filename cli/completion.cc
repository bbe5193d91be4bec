#include "cli/cli.h"

namespace weft::cli {
namespace {

// Words of one level of the command tree: subcommands and long flags.
std::string words_of(const CLI::App& app) {
  std::string words;
  for (const auto* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    words += sub->get_name() + " ";
  for (const auto* option : app.get_options())
    for (const auto& name : option->get_lnames()) words += "--" + name + " ";
  // These hold wherever they stand.
  if (app.get_parent()) words += "--json --pretty --bpffs --run-dir ";
  if (!words.empty()) words.pop_back();
  return words;
}

// The script is made from the same tree that parses, so that it cannot tell of a command that is
// not there.
std::string bash_script(const CLI::App& root) {
  std::string script =
      "# bash completion for weftctl: source <(weftctl completion bash)\n"
      "_weftctl() {\n"
      "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} noun= verb= word "
      "skip=\n"
      "  local -a flags=()\n"
      "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
      "    if [ -n \"$skip\" ]; then flags+=(\"$word\"); skip=; continue; fi\n"
      "    case $word in\n"
      "      --bpffs|--run-dir) flags+=(\"$word\"); skip=1 ;;\n"
      "      -*) ;;\n"
      "      *) if [ -z \"$noun\" ]; then noun=$word; elif [ -z \"$verb\" ]; then verb=$word; fi "
      ";;\n"
      "    esac\n"
      "  done\n"
      "  case $prev in\n"
      "    --bpffs|--run-dir) COMPREPLY=($(compgen -d -- \"$cur\")); return ;;\n"
      "    --service) COMPREPLY=($(compgen -W \"$(_weftctl_services)\" -- \"$cur\")); return ;;\n"
      "    --timeout) COMPREPLY=($(compgen -W '1s 10s 1m' -- \"$cur\")); return ;;\n"
      "  esac\n"
      "  local words=\n"
      "  case \"$noun/$verb\" in\n"
      "    service/show) words=$(_weftctl_services) ;;\n"
      "    map/dump) words=$(_weftctl_maps) ;;\n"
      "    check/*) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n";
  for (const auto* noun : root.get_subcommands([](const CLI::App*) { return true; })) {
    for (const auto* verb : noun->get_subcommands([](const CLI::App*) { return true; }))
      script += "    " + noun->get_name() + "/" + verb->get_name() + ") words='" + words_of(*verb) +
                "' ;;\n";
    script += "    " + noun->get_name() + "/*) words='" + words_of(*noun) + "' ;;\n";
  }
  script += "    *) words='" + words_of(root) +
            "' ;;\n"
            "  esac\n"
            "  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
            "}\n"
            "_weftctl_services() {\n"
            "  weftctl \"${flags[@]}\" service list 2>/dev/null | awk 'NR>1 {print $1}'\n"
            "}\n"
            "_weftctl_maps() {\n"
            "  weftctl \"${flags[@]}\" map list 2>/dev/null | awk 'NR>1 {print $1}'\n"
            "}\n"
            "complete -F _weftctl weftctl\n";
  return script;
}

}  // namespace

void add_completion(CLI::App& root, Context&) {
  auto& noun = add_noun(root, "completion", "Shell completion");
  add_command(noun, "bash", "Print the script: source <(weftctl completion bash)",
              [&root] { std::fputs(bash_script(root).c_str(), stdout); });
}

}  // namespace weft::cli
